//! Programs that cannot be seen: said before the run, and refused where rules
//! must hold.

use libtest_mimic::{Failed, Trial};

use crate::support::{Outcome, Run, Way, compile, same, stage};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("doctor: an ordinary program", doctor_ordinary),
        Trial::test("doctor: a static program", doctor_static),
        Trial::test("run warns of a static program", run_warns),
        Trial::test("mode enforce refuses a static program", enforce_refuses),
        Trial::test("mode enforce refuses a static child", enforce_refuses_child),
    ]
}

fn doctor(program: &str) -> Outcome {
    Run::new(&stage().launcher)
        .args(["doctor", "--", program])
        .finish()
}

fn static_program() -> Result<String, String> {
    Ok(compile("unseen_static", &["-static"])?
        .to_str()
        .unwrap()
        .to_owned())
}

fn says(outcome: &Outcome, word: &str) -> Result<(), Failed> {
    if (outcome.stdout.clone() + &outcome.stderr).contains(word) {
        Ok(())
    } else {
        Err(format!("it does not say {word:?}:\n{}", outcome.seen()).into())
    }
}

fn doctor_ordinary() -> Result<(), Failed> {
    let outcome = doctor("ls");
    same("exit 0", &outcome.status, &outcome.seen())?;
    same("", &outcome.stderr, "stderr")?;
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let library = stage().library.display().to_string();
    let path = lines.first().unwrap_or(&"");
    let is_told = path.starts_with('/')
        && path.contains("/ls: is loaded by the dynamic loader")
        && lines.iter().any(|line| line.contains(&library))
        && lines
            .last()
            .is_some_and(|line| line.starts_with("ls can be "));
    if !is_told {
        return Err(format!(
            "of a program, its loader and the library:\n{}",
            outcome.seen()
        )
        .into());
    }
    Ok(())
}

fn doctor_static() -> Result<(), Failed> {
    let outcome = doctor(&static_program()?);
    says(&outcome, "static")?;
    if outcome.status == "exit 0" {
        return Err("a program that cannot be seen is no success".into());
    }
    Ok(())
}

fn run_warns() -> Result<(), Failed> {
    // Where nothing is to be enforced.
    let run = Run::new(static_program()?).way(Way::Observe).logged();
    let outcome = run.rule("deny bind tcp *:8080").finish();
    same("bind: ok\n", &outcome.stdout, "it runs, out of sight")?;
    same("exit 0", &outcome.status, "status")?;
    says(&outcome, "static")
}

fn enforce_refuses() -> Result<(), Failed> {
    let run = Run::new(static_program()?).way(Way::Run).logged();
    let run = run.rule("mode enforce").rule("deny bind tcp *:8080");
    let outcome = run.finish();
    if outcome.status == "exit 0" || !outcome.stdout.is_empty() {
        return Err(format!("it ran:\n{}", outcome.seen()).into());
    }
    says(&outcome, "static")?;
    let outcome = run.launcher_arg("--allow-unseen").finish();
    same("bind: ok\n", &outcome.stdout, "--allow-unseen")?;
    same("exit 0", &outcome.status, "--allow-unseen")?;
    Ok(())
}

fn enforce_refuses_child() -> Result<(), Failed> {
    let program = static_program()?;
    let run = Run::new("sh")
        .args(["-c", &format!("{program}; echo then $?")])
        .way(Way::Run);
    let run = run
        .logged()
        .rule("mode enforce")
        .rule("deny bind tcp *:8080");
    let outcome = run.finish();
    if outcome.stdout.contains("bind: ok") || !outcome.stdout.contains("then 126") {
        return Err(format!("the child ran:\n{}", outcome.seen()).into());
    }
    let outcome = run.launcher_arg("--allow-unseen").finish();
    same("bind: ok\nthen 0\n", &outcome.stdout, "--allow-unseen")?;
    Ok(())
}
