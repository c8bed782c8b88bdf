//! A program under the policy that was learned from it: nothing is refused.

use std::fs;

use libtest_mimic::Failed;

use support::{Run, Way, log};

/// Learns from the program, and runs it under what was learned.
pub fn run(program: &Run) -> Result<(), Failed> {
    let learning = program.fresh().launcher_arg("--pid-globs");
    let learning = learning.learning("learned.policy");
    let outcome = learning.finish();
    let policy = learning.dir().join("learned.policy");
    let text = fs::read_to_string(&policy);
    let text = text.map_err(|e| format!("nothing was learned: {e}\n{}", outcome.seen()))?;
    let again = program.fresh().way(Way::Run).launcher_arg("--policy");
    let under = again.launcher_arg(&policy).launcher_arg("--wait").logged();
    let denied = under.finish().log()?;
    let denied: Vec<_> = denied
        .iter()
        .filter(|record| record.text("verdict") == "deny" && !is_announced(record, &text))
        .map(|record| record.0.to_string())
        .collect();
    match denied.is_empty() {
        true => Ok(()),
        false => Err(format!("{text}\nrefuses\n{}", denied.join("\n")).into()),
    }
}

/// Does the policy say that it does not allow this, because no rule can name it?
fn is_announced(record: &log::Record, policy: &str) -> bool {
    let call = record.text("call");
    let with = format!("# Not allowed: {call} {} by", record.text("asked"));
    let without = format!("# Not allowed: {call} by");
    policy.contains(&with)
        || policy.contains(&without) && matches!(record.text("asked"), "" | "malformed")
        || policy.contains(&without) && record.text("asked").starts_with("malformed:")
}
