//! Which of its matches a rule decides: `times`, `after`, `every`.

/// What a rule says of its matches in a run, in all processes together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uses {
    /// The first so many.
    Times(u32),
    /// All but the first so many.
    After(u32),
    /// Every so manieth.
    Every(u32),
}

impl Uses {
    /// Is the next match the rule's, with the counter at `used`?
    #[must_use]
    pub const fn takes(self, used: u32) -> bool {
        match self {
            Uses::Times(n) => used < n,
            Uses::After(n) => used >= n,
            // 0 is no rule's.
            Uses::Every(n) => used.saturating_add(1) >= n,
        }
    }

    /// The counter after the match. It stays where it says all there is to say.
    #[must_use]
    pub const fn next(self, used: u32) -> u32 {
        match self {
            Uses::Times(n) | Uses::After(n) if used < n => used.wrapping_add(1),
            Uses::Times(n) | Uses::After(n) => n,
            Uses::Every(n) if used.saturating_add(1) >= n => 0,
            Uses::Every(_) => used.wrapping_add(1),
        }
    }

    /// As a word beside the number of a counter.
    #[cfg(feature = "alloc")]
    pub(super) const fn to_word(self, counter: u32) -> u64 {
        let (kind, n) = match self {
            Uses::Times(n) => (0, n),
            Uses::After(n) => (1, n),
            Uses::Every(n) => (2, n),
        };
        n as u64 | ((counter & 0xffff) as u64) << 32 | kind << 62
    }

    /// What the word says: the counter, and this.
    pub(super) const fn of_word(word: u64) -> (u32, Uses) {
        let (counter, n) = ((word >> 32) as u32 & 0xffff, word as u32);
        match word >> 62 {
            0 => (counter, Uses::Times(n)),
            1 => (counter, Uses::After(n)),
            _ => (counter, Uses::Every(n)),
        }
    }

    /// The word of the language, and its number.
    #[cfg(feature = "alloc")]
    pub(super) const fn words(self) -> (&'static str, u32) {
        match self {
            Uses::Times(n) => ("times", n),
            Uses::After(n) => ("after", n),
            Uses::Every(n) => ("every", n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_matches_that_are_the_rules() {
        for (uses, expected) in [
            (Uses::Times(2), [true, true, false, false, false, false]),
            (Uses::After(2), [false, false, true, true, true, true]),
            (Uses::Every(1), [true; 6]),
            (Uses::Every(3), [false, false, true, false, false, true]),
        ] {
            let mut used = 0;
            let mut step = || {
                let takes = uses.takes(used);
                used = uses.next(used);
                takes
            };
            let seen: Vec<bool> = (0..6).map(|_| step()).collect();
            assert_eq!(seen, expected, "{uses:?}");
            assert_eq!(Uses::of_word(uses.to_word(1023)), (1023, uses));
        }
        // Whatever somebody has scribbled there.
        for uses in [
            Uses::Times(3),
            Uses::After(3),
            Uses::Every(3),
            Uses::Every(0),
        ] {
            assert!(uses.next(u32::MAX) <= 3);
        }
    }
}
