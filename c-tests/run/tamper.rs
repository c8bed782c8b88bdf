//! A program that goes at its own run.

use libtest_mimic::{Failed, Trial};

use support::{Run, Way, compile, same};

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("a program tampers with its run", tampers)]
}

/// The run's memory can be scribbled on, no more; whoever else is in the run
/// goes on under the same policy, and the run ends. Who comes later finds no
/// run any more, and is not started without its policy.
fn tampers() -> Result<(), Failed> {
    let program = compile("tampers", &[])?;
    let program = program.display();
    // The sibling binds before, while and after, until its input ends.
    let script = format!(
        "mkfifo end; {program} sibling <end & exec 3>end; \
         {program}; echo $?; {program}; echo $?; exec 3>&-; wait $!; echo $?"
    );
    let outcome = Run::new("sh")
        .arg("-c")
        .arg(script)
        .way(Way::Run)
        .rule("deny bind tcp *:8080")
        .logged()
        .launcher_arg("--wait")
        .finish();
    let expected = "stdout| policies that could be made writable: 0\n\
                    stdout| policies that were written: 0\n\
                    stdout| memory files that gave way: 0\n\
                    stdout| guesses that were right: 0\n\
                    stdout| tampering: ok\n\
                    stdout| 0\n\
                    stdout| 78\n\
                    stdout| sibling: ok\n\
                    stdout| 0\n\
                    stderr| bindgate: cannot attach to the run: its log process was \
                    killed or cannot be reached; refusing to start because the policy enforces\n\
                    exit 0\n";
    Ok(same(
        expected,
        &outcome.seen(),
        "a run that is tampered with",
    )?)
}
