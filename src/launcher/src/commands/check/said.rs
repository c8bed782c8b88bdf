//! What became of an expectation, in words.

use bindgate_core::check::{End, Near, Outcome, State, Why};
use bindgate_core::policy::{Exit, Expectation, Expected};

use super::report;

/// How the program ended, in words.
pub fn ended(end: Option<&End>) -> String {
    let Some(end) = end else {
        return "the program has not ended".into();
    };
    let how = match end.how {
        Exit::Status(status) => format!("the program ended with {status}"),
        Exit::Signal(_) => format!("{} ended the program", end.how),
    };
    match (end.was_killed, end.was_told) {
        (true, _) => format!("{how}: it went on after SIGTERM"),
        (_, true) => format!("{how}, told to end"),
        _ => how,
    }
}

/// Where the check has come to.
pub struct Scene<'a> {
    /// How the program ended.
    pub end: Option<&'a End>,
    /// The time that the check had.
    pub timeout: &'a str,
}

impl Scene<'_> {
    /// Until when something did not happen.
    fn until(&self, line: &Expectation, outcome: &Outcome) -> String {
        match (outcome.timed_out, line.within_ms, self.end) {
            (true, Some(_), _) if outcome.at_ms > 0 => format!("within {} ms", outcome.at_ms - 1),
            (true, ..) => format!("within {}", self.timeout),
            (false, _, Some(end)) if !end.was_told => {
                format!(
                    "before {}",
                    ended(Some(end)).replacen("the program ended", "it ended", 1)
                )
            }
            _ => "before the end".into(),
        }
    }

    /// What was seen of an expectation.
    pub fn seen(&self, line: &Expectation, outcome: &Outcome) -> String {
        let until = || self.until(line, outcome);
        let name = match &line.what {
            Expected::Call(op, _) => op.name(),
            Expected::Option(..) | Expected::Retry(..) => "bind",
            _ => "",
        };
        match &outcome.why {
            Why::Record(_) if outcome.state == State::Held => {
                format!("after {} ms", outcome.at_ms)
            }
            Why::Record(_) => format!("a forbidden {name}"),
            Why::Instead(Near::Failed, _) => format!("it failed, and did not succeed {}", until()),
            Why::Instead(Near::Bound, _) => format!("bound there, but no listen {}", until()),
            Why::Instead(Near::Port, _) => format!("a {name} at another address instead"),
            Why::Instead(Near::Kind, _) => {
                format!(
                    "never got there: no such {name} {}; the nearest one is",
                    until()
                )
            }
            Why::Late(_) => format!("too late: after {} ms", outcome.at_ms),
            Why::WithoutOption(_, true) => "bound without the option".into(),
            Why::WithoutOption(_, false) => {
                "bound with options that nobody knows: the socket came from elsewhere".into()
            }
            Why::WithOption(_) => "bound with the option".into(),
            Why::NotAgain(_) => format!("failed, and no bind came after that {}", until()),
            Why::NothingFailed => format!(
                "never got there: no bind failed so {}; `-r 'deny bind … with … times 1'` makes one fail",
                until()
            ),
            Why::Never if outcome.state == State::Held => "nothing of the kind".into(),
            Why::Never => format!("never got there: no such {name} {}", until()),
            Why::Listeners(left) => format!("still listening: {}", left.join("; ")),
            Why::Ended(end) if matches!(line.what, Expected::NoListener(_)) => {
                format!("none; {}", ended(Some(end)))
            }
            Why::Ended(end) => ended(Some(end)),
            Why::RunsOn => format!("the program had not ended {}", until()),
            Why::Nothing => "nothing yet".into(),
        }
    }
}

/// The word for it.
pub fn outcome(state: State) -> report::Outcome {
    match state {
        State::Held => report::Outcome::Held,
        State::Wrong => report::Outcome::Wrong,
        State::Missing | State::Open => report::Outcome::Missing,
    }
}
