//! Sources of rules: gathered, compiled, checked, shown.

use std::env;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bindgate_core::model::Generation;
use bindgate_core::policy::{
    self, Diagnostic, Op, Policy, Program, Resolver, Rule, Severity, Term, View,
};
use bindgate_core::render::Readable;
use bindgate_core::shared::{ENV_POLICY, ENV_RULES};

use crate::args::RuleSource;
use bindgate_os as sys;

use crate::{Failure, exit, print, shown};

/// Text that holds rules.
pub struct Source {
    /// What messages and the log call it.
    pub name: String,
    /// The rules.
    pub text: String,
}

/// The users of this machine.
pub struct Users;

impl Resolver for Users {
    fn uid(&self, name: &str) -> Option<u32> {
        sys::user_id(name)
    }
}

/// A policy, ready for the programs of a run.
pub struct Compiled {
    /// What is mapped into them.
    pub words: Vec<u64>,
    /// How many rules there are.
    pub rules: usize,
    warnings: Vec<Diagnostic>,
}

impl Compiled {
    /// Returns whether it refuses or changes anything.
    pub fn is_enforcing(&self) -> bool {
        self.view().is_ok_and(|v| v.is_enforcing())
    }

    /// Writes the warnings about the policy that it was compiled from.
    pub fn warn(&self, parsed: &Policy) {
        say_all(&self.warnings);
        say_all(&links(parsed));
    }

    /// Leaves out the warning that rules which allow have no effect: with `--user`
    /// they have.
    pub fn grants_ports(&mut self) {
        self.warnings
            .retain(|w| !w.message.starts_with("this has no effect"));
    }

    /// The policy as programs see it.
    pub fn view(&self) -> Result<View<'_>, Failure> {
        View::new(&self.words)
            .map_err(|e| Failure::new(exit::CONFIG, "the compiled policy", format!("{e:?}")))
    }
}

/// The longest policy or script that is read: more than ten times what the
/// largest number of rules takes. A device or a pipe may never end.
const LONGEST: u64 = 64 << 20;

/// Reads a file, or standard input for `-`.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e| Failure::new(exit::CONFIG, shown(&path), e);
    let mut bytes = Vec::new();
    let from: &mut dyn Read = if path == Path::new("-") {
        &mut std::io::stdin()
    } else {
        &mut std::fs::File::open(path).map_err(failed)?
    };
    from.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        let why = format!(
            "longer than {} MiB, which no policy or script is",
            LONGEST >> 20
        );
        return Err(Failure::new(exit::CONFIG, shown(&path), why));
    }
    Ok(bytes)
}

/// A file of rules, or standard input for `-`.
pub fn read(path: &Path) -> Result<Source, Failure> {
    let name = shown(&path).to_string();
    let bytes = read_bytes(path)?;
    let text = policy::text(&name, &bytes).map_err(|d| broken(&d))?;
    let text = text.to_owned();
    Ok(Source { name, text })
}

/// Collects the rules of the command line, in its order, then those of the
/// environment.
pub fn gather(rules: &[RuleSource]) -> Result<Vec<Source>, Failure> {
    let mut sources = given(rules)?;
    if let Some(text) = env::var_os(ENV_RULES) {
        let text = policy::text(ENV_RULES, text.as_bytes()).map_err(|d| broken(&d))?;
        sources.push(Source {
            name: ENV_RULES.into(),
            text: text.to_owned(),
        });
    }
    if let Some(path) = env::var_os(ENV_POLICY).filter(|p| !p.is_empty()) {
        sources.push(read(Path::new(&path))?);
    }
    Ok(sources)
}

/// Collects the rules of the command line, in its order.
pub fn given(rules: &[RuleSource]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    let mut given = 0;
    for rule in rules {
        sources.push(match rule {
            RuleSource::File(path) => read(path)?,
            RuleSource::Option(name, text) => Source {
                name: (*name).into(),
                text: text.clone(),
            },
            RuleSource::Text(text) => {
                given += 1;
                Source {
                    name: format!("-r #{given}"),
                    text: text.clone(),
                }
            }
        });
    }
    if given == 1 {
        for source in &mut sources {
            if source.name == "-r #1" {
                source.name = "-r".into();
            }
        }
    }
    Ok(sources)
}

fn say_all(diagnostics: &[Diagnostic]) {
    let mut text = String::new();
    for d in diagnostics {
        let _ = writeln!(text, "{d}");
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes the errors of a policy.
pub fn broken(diagnostics: &[Diagnostic]) -> Failure {
    say_all(diagnostics);
    Failure::say(exit::CONFIG, "")
}

/// Parses the sources as one policy, and writes all errors.
pub fn parse(sources: &[Source]) -> Result<Policy, Failure> {
    let sources: Vec<_> = sources
        .iter()
        .map(|s| policy::Source {
            name: &s.name,
            text: &s.text,
        })
        .collect();
    policy::parse(&sources).map_err(|d| broken(&d))
}

/// Compiles a policy, and writes all errors.
pub fn compile(parsed: &Policy) -> Result<Compiled, Failure> {
    let rules = parsed.rules.len();
    let (compiled, warnings) = policy::compile(parsed, &Users).map_err(|d| broken(&d))?;
    check_host(parsed)?;
    Ok(Compiled {
        words: compiled.words,
        rules,
        warnings,
    })
}

/// Writes why there cannot be the host that a policy describes. Whatever the kernel
/// here is: where there can be one there can be one everywhere.
pub fn check_host(parsed: &Policy) -> Result<(), Failure> {
    let described = parsed.described(Generation::Linux6_18);
    described.map(drop).map_err(|d| broken(&d))
}

/// Finds rules for a program that is a symbolic link on this machine: the file
/// that it leads to is what runs, and it has another name.
fn links(parsed: &Policy) -> Vec<Diagnostic> {
    let leads = |rule: &Rule| {
        let (glob, word) = match (&rule.program, &rule.term) {
            (Some(Program::Executable(glob)), _) => (glob, "for"),
            (_, Term::File(glob)) => (glob, "exec"),
            _ => return None,
        };
        if glob.contains(['*', '?', '[', '\\']) {
            return None;
        }
        let name = Path::new(glob);
        let target = if glob.contains('/') {
            Some(name.canonicalize().ok()?).filter(|t| t != name)?
        } else {
            let path = env::var_os("PATH")?;
            let found = env::split_paths(&path).filter_map(|d| d.join(name).canonicalize().ok());
            let found: Vec<_> = found.collect();
            let is_called_so = |t: &PathBuf| t.file_name() == Some(name.as_os_str());
            let other = found.iter().all(|t| !is_called_so(t));
            PathBuf::from(found.first().filter(|_| other)?.file_name()?)
        };
        let message = format!("'{glob}' is a symbolic link; '{word}' matches its target");
        let mut d = Diagnostic::at(parsed, rule.at, Severity::Warning, message);
        d.suggestion = Some(format!("{word} {}", target.display()));
        Some(d)
    };
    // A policy with more of them was written by a program.
    let rules = parsed.rules.iter();
    let rules = rules.filter(|r| r.program.is_some() || r.op == Op::Exec);
    rules.take(100).filter_map(leads).collect()
}

/// The texts of policy files.
pub fn files(files: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    files.iter().map(|f| read(f)).collect()
}

/// `bindgate policy check`
pub fn check(paths: &[PathBuf]) -> Result<i32, Failure> {
    let parsed = parse(&files(paths)?)?;
    let compiled = compile(&parsed)?;
    compiled.warn(&parsed);
    say_all(&policy::hints(&parsed));
    let counted = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let expectations = match parsed.expectations.len() {
        0 => String::new(),
        n => format!(", {}", counted(n, "expectation")),
    };
    let rules = counted(compiled.rules, "rule");
    say(&format!("{rules}{expectations}, no errors\n"))
}

/// `bindgate policy show`
pub fn show(paths: &[PathBuf]) -> Result<i32, Failure> {
    let parsed = parse(&files(paths)?)?;
    let compiled = compile(&parsed)?;
    say(&numbered(&parsed.to_string(), &compiled.view()?))
}

/// Each rule with its number and its place in a comment, so that the whole
/// stays a policy.
fn numbered(printed: &str, view: &View<'_>) -> String {
    const COLUMN: usize = 60;
    let mut text = String::new();
    let mut rule = 0;
    for line in printed.lines() {
        let is_rule = !["default ", "mode ", "host ", "expect ", "forbid "]
            .iter()
            .any(|word| line.starts_with(word));
        match view.rule_source(rule).filter(|_| is_rule) {
            Some((name, at, number)) => {
                rule += 1;
                let name = Readable(name);
                let _ = writeln!(text, "{line:COLUMN$} # rule {number}, {name}:{at}");
            }
            None => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

fn say(text: &str) -> Result<i32, Failure> {
    print(text)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_numbered_and_still_a_policy() {
        let source = |text: &str| {
            [Source {
                name: "a b.policy".into(),
                text: text.into(),
            }]
        };
        let text = "mode enforce\n\ndeny bind udp *:53\nmove bind tcp *:80 to loopback:8080\n\
                    default deny EPERM for bind\n";
        let parsed = parse(&source(text)).unwrap();
        let shown = numbered(
            &parsed.to_string(),
            &compile(&parsed).unwrap().view().unwrap(),
        );
        assert!(shown.contains("# rule 1, a b.policy:3\n"), "{shown}");
        assert!(shown.contains("# rule 2, a b.policy:4\n"), "{shown}");
        assert_eq!(
            parse(&source(&shown)).unwrap().rules.len(),
            parsed.rules.len()
        );
    }
}
