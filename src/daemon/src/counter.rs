//! Time as the processor counts it.
//!
//! A clock call costs a program more than the rest of a record does. Where the
//! kernel itself takes the time from the processor's counter, so do the
//! programs, and the drainer says when that was.

use std::time::Duration;

use bindgate_os as sys;

/// A moment in both ways of counting.
#[derive(Clone, Copy, Debug)]
struct Moment {
    count: u64,
    realtime: Duration,
    monotonic: Duration,
}

impl Moment {
    fn now() -> Moment {
        // Whoever is interrupted between the two readings tries again: the
        // closest pair of a few is close.
        let pair = || {
            let before = sys::counter();
            let (realtime, monotonic) = (sys::realtime(), sys::monotonic());
            let width = sys::counter().wrapping_sub(before);
            let count = before.wrapping_add(width / 2);
            (
                width,
                Moment {
                    count,
                    realtime,
                    monotonic,
                },
            )
        };
        let first = pair();
        let pairs = [first, pair(), pair()];
        pairs.into_iter().min_by_key(|p| p.0).unwrap_or(first).1
    }
}

/// What the counter says, in time.
#[derive(Debug)]
pub struct Counter {
    first: Moment,
    latest: Moment,
    /// Nanoseconds for one count.
    step: f64,
}

impl Counter {
    /// How long the first look at its speed takes.
    const LOOK: Duration = Duration::from_micros(300);

    /// Does the kernel take the time from the counter that
    /// [`sys::counter`] reads? Then it is steady, and the same on every
    /// processor.
    pub fn is_steady() -> bool {
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|name| matches!(name.trim(), "tsc" | "arch_sys_counter"))
    }

    /// From now on.
    pub fn start() -> Counter {
        let first = Moment::now();
        Counter {
            first,
            latest: first,
            step: 0.0,
        }
    }

    /// Looks at the clocks again. What was counted since the last look, and
    /// until the next one, is told from this moment.
    pub fn look(&mut self) {
        self.latest = Moment::now();
        let time = self.latest.monotonic.saturating_sub(self.first.monotonic);
        if time < Self::LOOK && self.step != 0.0 {
            return;
        }
        let counts = self.latest.count.wrapping_sub(self.first.count).max(1);
        self.step = time.as_nanos() as f64 / counts as f64;
    }

    /// Nanoseconds since the epoch when the counter stood at `count`, which may
    /// be anything.
    pub fn time(&mut self, count: u64) -> u64 {
        while self.latest.monotonic - self.first.monotonic < Self::LOOK {
            self.look();
        }
        let since = count.wrapping_sub(self.latest.count).cast_signed() as f64 * self.step;
        let at = self.latest.realtime.as_nanos() as u64;
        at.saturating_add_signed(since as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_within_the_moments_around_them() {
        let mut counter = Counter::start();
        for _ in 0..200 {
            let before = sys::realtime().as_nanos() as u64;
            let count = sys::counter();
            let after = sys::realtime().as_nanos() as u64;
            std::thread::sleep(Duration::from_micros(50));
            counter.look();
            let told = counter.time(count);
            // The speed is known from at least `LOOK`, to better than this.
            let blur = 2_000;
            assert!(
                before - blur <= told && told <= after + blur,
                "{before} {told} {after}"
            );
        }
        // Whatever a program wrote there is some time.
        for count in [0, 1, u64::MAX, u64::MAX / 2] {
            let _ = counter.time(count);
        }
    }
}
