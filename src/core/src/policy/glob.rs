//! Globs over paths and names, in one pass and without recursion.
//!
//! `*` is any run of bytes without `/`, `**` any run at all, `?` one byte but
//! `/`, `[a-z]` and `[!a-z]` one byte of a class but `/`, `\x` the byte `x`.
//! `/**/` matches `/` as well. Where only `*` and `?` are in it, the last star
//! takes as little as can be; else all the positions that the pattern can be at
//! are followed together. No pattern takes more than its length times that of
//! the text.

/// Bytes of a pattern with wildcards, at most.
pub(crate) const MAX_PATTERN: usize = 511;
const SET: usize = (MAX_PATTERN + 1) / 64;

fn is_special(b: u8) -> bool {
    matches!(b, b'*' | b'?' | b'[' | b'\\')
}

/// Returns whether the pattern matches nothing but itself.
#[cfg(feature = "alloc")]
pub(crate) fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().copied().any(is_special)
}

/// How many bytes of the pattern come before its first wildcard.
pub(crate) fn literal_prefix(pattern: &[u8]) -> usize {
    let special = pattern.iter().position(|&b| is_special(b));
    special.unwrap_or(pattern.len())
}

/// What stands at a place of a pattern, and where it ends.
pub(super) enum Token {
    Byte(u8, usize),
    One(usize),
    Class(usize),
    Star(usize),
    Stars(usize),
    /// `**/` where a component begins: any number of whole components.
    Dirs(usize),
    /// In the middle of a component that [`Token::Dirs`] takes. It stands at
    /// the second star, where no other token begins.
    InDirs,
    End,
}

pub(super) fn token(p: &[u8], i: usize) -> Token {
    let before = i.checked_sub(1).and_then(|i| p.get(i));
    match p.get(i) {
        None => Token::End,
        Some(b'*') if before == Some(&b'*') => Token::InDirs,
        Some(b'*') => {
            let stars = p.get(i..).unwrap_or(&[]).iter();
            let n = stars.take_while(|&&b| b == b'*').count();
            let begins = matches!(before, None | Some(b'/'));
            match n {
                1 => Token::Star(i + 1),
                n if begins && p.get(i + n) == Some(&b'/') => Token::Dirs(i + n + 1),
                n => Token::Stars(i + n),
            }
        }
        Some(b'?') => Token::One(i + 1),
        Some(b'[') => match class_end(p, i) {
            Some(end) => Token::Class(end),
            None => Token::Byte(b'[', i + 1),
        },
        Some(b'\\') => match p.get(i + 1) {
            Some(&b) => Token::Byte(b, i + 2),
            None => Token::Byte(b'\\', i + 1),
        },
        Some(&b) => Token::Byte(b, i + 1),
    }
}

/// Behind the `]` of the class that begins at `i`. A `]` that comes first is
/// a member.
fn class_end(p: &[u8], i: usize) -> Option<usize> {
    let mut j = i + 1;
    if p.get(j) == Some(&b'!') {
        j += 1;
    }
    if p.get(j) == Some(&b']') {
        j += 1;
    }
    while *p.get(j)? != b']' {
        j += 1;
    }
    Some(j + 1)
}

pub(super) fn in_class(p: &[u8], i: usize, end: usize, c: u8) -> bool {
    let mut body = p.get(i + 1..end.saturating_sub(1)).unwrap_or(&[]);
    let negated = body.first() == Some(&b'!');
    if negated {
        body = body.get(1..).unwrap_or(&[]);
    }
    let mut found = false;
    while let Some((&from, rest)) = body.split_first() {
        if let [b'-', to, rest @ ..] = rest {
            found |= (from..=*to).contains(&c);
            body = rest;
        } else {
            found |= from == c;
            body = rest;
        }
    }
    c != b'/' && found != negated
}

/// The places of the pattern where the text read so far can have led.
struct Positions<'p, const N: usize> {
    pattern: &'p [u8],
    /// The place that bit 0 stands for.
    base: usize,
    bits: [u64; N],
}

impl<'p, const N: usize> Positions<'p, N> {
    fn none(pattern: &'p [u8], base: usize) -> Self {
        let bits = [0; N];
        #[rustfmt::skip]
        return Positions { pattern, base, bits };
    }

    fn mark(&mut self, i: usize) {
        let i = i.wrapping_sub(self.base);
        if let Some(word) = self.bits.get_mut(i / 64) {
            *word |= 1 << (i % 64);
        }
    }

    fn has(&self, i: usize) -> bool {
        let i = i.wrapping_sub(self.base);
        let word = self.bits.get(i / 64).copied().unwrap_or(0);
        word >> (i % 64) & 1 == 1
    }

    /// Adds a place, and those that it leads to without reading a byte.
    fn add(&mut self, mut i: usize) {
        loop {
            self.mark(i);
            match token(self.pattern, i) {
                Token::Star(next) | Token::Stars(next) | Token::Dirs(next) => i = next,
                _ => return,
            }
        }
    }

    /// Adds where place `i` leads by reading `c`.
    fn step(&mut self, i: usize, c: u8) {
        match token(self.pattern, i) {
            Token::Byte(b, next) if b == c => self.add(next),
            Token::One(next) if c != b'/' => self.add(next),
            Token::Class(next) if in_class(self.pattern, i, next, c) => self.add(next),
            Token::Star(_) if c != b'/' => self.add(i),
            Token::Stars(_) => self.add(i),
            Token::Dirs(_) if c == b'/' => self.add(i),
            Token::Dirs(_) => self.mark(i + 1),
            Token::InDirs if c == b'/' => self.add(i - 1),
            Token::InDirs => self.mark(i),
            _ => {}
        }
    }
}

/// Returns whether `pattern` matches the whole of `text`. A pattern with more than 511
/// bytes from its first wildcard on matches nothing; compiling a policy
/// refuses it.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let base = literal_prefix(pattern);
    let head = pattern.get(..base).unwrap_or(&[]);
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    match pattern.get(base..).unwrap_or(&[]) {
        [] => text.is_empty(),
        b"**" => true,
        rest if rest.len() > MAX_PATTERN => false,
        rest if is_simple(rest) => simple(rest, text),
        rest if rest.len() < 64 => all_ways::<1>(pattern, base, text),
        _ => all_ways::<SET>(pattern, base, text),
    }
}

/// Returns whether it has no wildcards except `*` and `?`.
fn is_simple(pattern: &[u8]) -> bool {
    let mut before = 0;
    pattern.iter().all(|&b| {
        let stars = b == b'*' && before == b'*';
        before = b;
        !stars && b != b'[' && b != b'\\'
    })
}

/// Matches a pattern whose only wildcards are `*` and `?`. What a star takes is
/// tried from the shortest on, and of the last star only: an earlier one that
/// took more would meet the same bytes later, and what neither may take is the
/// same `/`.
fn simple(pattern: &[u8], text: &[u8]) -> bool {
    let (mut i, mut j) = (0, 0);
    // After the last star, and after what it takes.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(i), text.get(j)) {
            (Some(b'*'), _) => {
                i += 1;
                star = Some((i, j));
            }
            (None, None) => return true,
            (Some(&b), Some(&c)) if b == c || (b == b'?' && c != b'/') => {
                i += 1;
                j += 1;
            }
            _ => match star {
                Some((behind, to)) if text.get(to).is_some_and(|&c| c != b'/') => {
                    (i, j) = (behind, to + 1);
                    star = Some((i, j));
                }
                _ => return false,
            },
        }
    }
}

/// Matches a pattern from `base` on, with `N` words for its places.
fn all_ways<const N: usize>(pattern: &[u8], base: usize, text: &[u8]) -> bool {
    let used = (pattern.len() - base) / 64 + 1;
    let mut now = Positions::<N>::none(pattern, base);
    now.add(base);
    for &c in text {
        let mut next = Positions::none(pattern, base);
        for (w, &word) in now.bits.iter().take(used).enumerate() {
            let mut left = word;
            while left != 0 {
                next.step(base + w * 64 + left.trailing_zeros() as usize, c);
                left &= left - 1;
            }
        }
        if next.bits == [0; N] {
            return false;
        }
        now = next;
    }
    now.has(pattern.len())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn what_globs_match() {
        for (pattern, yes, no) in [
            ("", &[""][..], &["a"][..]),
            ("/a/b", &["/a/b"], &["/a/b/", "/a"]),
            ("/a/*", &["/a/b", "/a/"], &["/a/b/c", "/a"]),
            ("/a/**", &["/a/b", "/a/", "/a/b/c"], &["/a", "/ab"]),
            (
                "/a/**/x",
                &["/a/x", "/a/b/x", "/a/b/c/x"],
                &["/a/bx", "/ax"],
            ),
            ("/a**/x", &["/a/x", "/ab/c/x"], &["/ax"]),
            ("**/x", &["x", "/x", "a/b/x"], &["ax", "/ax"]),
            ("**", &["", "/", "a/b"], &[]),
            ("*", &["", "ab"], &["/", "a/b"]),
            (
                "/a/**/b/**/c",
                &["/a/b/c", "/a/x/b/y/z/c"],
                &["/a/c", "/a/b"],
            ),
            ("*a*b", &["ab", "xaab", "aab"], &["a/b", "ba"]),
            ("**/a*/**", &["a/", "x/ab/c"], &["a", "b/c"]),
            ("?", &["a"], &["/", "", "ab"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax", "/x"]),
            ("[]-]", &["]", "-"], &["a"]),
            ("a[", &["a["], &["a"]),
            ("\\*", &["*"], &["a", "\\a"]),
            ("a\\", &["a\\"], &["a"]),
            ("***/x", &["x", "a/x"], &["ax"]),
        ] {
            for text in yes {
                assert!(
                    matches(pattern.as_bytes(), text.as_bytes()),
                    "{pattern} {text}"
                );
            }
            for text in no {
                assert!(
                    !matches(pattern.as_bytes(), text.as_bytes()),
                    "{pattern} {text}"
                );
            }
        }
    }

    #[test]
    fn many_stars_are_not_slow() {
        let pattern = "*a**b".repeat(100);
        let text = "ab".repeat(2000);
        assert!(matches(pattern.as_bytes(), text.as_bytes()));
        assert!(!matches(pattern.as_bytes(), (text + "c").as_bytes()));
    }
}
