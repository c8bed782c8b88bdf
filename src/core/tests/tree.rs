//! No decision stands outside the core: what follows from a rule, and which
//! errno a refusal has, is decided in `judge` and `reach`.

use std::fs;
use std::path::{Path, PathBuf};

/// What only the core may ask of a compiled policy. An exec rule is asked by
/// the driver of `reach`, whose machine asks for it by a need.
const QUESTIONS: [&str; 6] = [
    "view.decide(",
    "view.ruling(",
    "view.outlook(",
    "view.foreseen(",
    "view.candidates(",
    "view.by_default(",
];

/// How a hook would choose the errno of a refusal.
const CHOICES: [&str; 4] = [
    "refuse(Errno(libc::EA",
    "Refuse(Errno(libc::",
    "record.errno = libc::",
    "refused = Some(Errno(libc::",
];

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn no_decision_stands_outside_the_core() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for part in ["shim", "launcher", "daemon"] {
        sources(&src.join(part).join("src"), &mut files);
    }
    assert!(files.len() > 40, "{} files", files.len());
    let mut found = Vec::new();
    for file in files {
        for (n, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let line = line.trim();
            let asks = QUESTIONS.iter().chain(&CHOICES).any(|p| line.contains(p));
            if asks && !line.starts_with("//") {
                found.push(format!("{}:{}: {line}", file.display(), n + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
