//! How long tests wait for what should happen. No test needs this time: it is
//! there for what never happens.

use std::time::{Duration, Instant};

/// Time that runs out, the slower the more processes want to run.
pub struct Patience {
    left: Duration,
    last: Instant,
}

impl Patience {
    /// On a quiet machine, what has not happened by then never will: two
    /// minutes, or as many seconds as `BINDGATE_TEST_PATIENCE` says.
    pub fn usual() -> Duration {
        let seconds = std::env::var("BINDGATE_TEST_PATIENCE");
        let seconds = seconds.ok().and_then(|n| n.parse().ok());
        Duration::from_secs(seconds.unwrap_or(120))
    }

    #[allow(clippy::new_without_default, reason = "it begins now")]
    pub fn new() -> Patience {
        Patience::of(Patience::usual())
    }

    pub fn of(time: Duration) -> Patience {
        Patience {
            left: time,
            last: Instant::now(),
        }
    }

    /// All of it, for whoever can only be told a time.
    pub fn time() -> Duration {
        Patience::usual().mul_f64(crowd())
    }

    /// To be asked every now and then.
    pub fn is_over(&mut self) -> bool {
        let passed = self.last.elapsed();
        if passed >= Duration::from_secs(1).min(self.left) {
            self.last = Instant::now();
            self.left = self.left.saturating_sub(passed.div_f64(crowd()));
        }
        self.left.is_zero()
    }
}

/// So many processes want each processor; one at least.
fn crowd() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (load.unwrap_or(0.0) / processors as f64).max(1.0)
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let mut patience = Patience::new();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if patience.is_over() {
            return Err(format!("never happened: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
