//! `bindgate doctor`: can a program be intercepted, and what to do if not.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bindgate_core::reach::{Class, Stance};

use crate::args::Doctor;
use crate::reach::{Found, Looker};
use crate::{Failure, exit, library, print, shown};

/// `bindgate doctor`
pub fn doctor(doctor: &Doctor) -> Result<i32, Failure> {
    let library = match &doctor.library {
        Some(path) => path
            .canonicalize()
            .map_err(|e| Failure::new(exit::SYSTEM, shown(&path), e))?,
        None => library::find()?,
    };
    let looker = Looker {
        stance: Stance {
            looks_ahead: true,
            ..Stance::default()
        },
        view: None,
        library: &library,
    };
    let program = doctor.command.first().map(|p| shown(p).to_string());
    let program = program.unwrap_or_default();
    let Some(found) = looker.look(&doctor.command) else {
        return Err(Failure::say(
            exit::NOT_FOUND,
            format!("{program}: not found in PATH"),
        ));
    };
    let mut text = String::new();
    describe(&mut text, &found, "");
    let _ = writeln!(text, "library: {}", shown(&library));
    let note = library_note(&library).unwrap_or_else(|| {
        "every user can read it; in a chroot it must be at the same path".into()
    });
    let _ = writeln!(text, "  {note}");
    let obstacle = found.obstacle().map(|(link, _)| link);
    match obstacle {
        Some(link) => {
            let is_itself = found.links.first().is_some_and(|l| l.path == link.path);
            let what = if is_itself {
                "it".into()
            } else {
                shown(&link.path).to_string()
            };
            let why = link.class.why();
            let _ = writeln!(text, "{program} cannot be intercepted: {what} {why}");
            let _ = writeln!(text, "  what to do: {}", link.class.advice());
            let _ = writeln!(
                text,
                "  an enforcing policy refuses to start it, unless it says: allow exec {}",
                real(&link.path)
            );
        }
        None => {
            let _ = writeln!(text, "{program} can be intercepted");
            if let Some(ahead) = ahead(&found) {
                let _ = writeln!(text, "  {ahead}");
            }
        }
    }
    print(&text)?;
    Ok(i32::from(obstacle.is_some()))
}

/// The file's own path, as `exec` rules compare it.
pub fn real(path: &Path) -> String {
    let real = path.canonicalize();
    shown(real.as_deref().unwrap_or(path)).to_string()
}

/// What keeps a program that can be intercepted from it where another user
/// starts it: a mail server that starts itself again does.
pub fn ahead(found: &Found) -> Option<String> {
    let class = found.verdict.latent?;
    let path = real(&found.links.last()?.path);
    let what = match class {
        Class::FileCaps => "file capabilities",
        _ => "the set-user-ID or set-group-ID bit",
    };
    Some(format!(
        "{path} has {what}: where another user starts it, it cannot be intercepted, and an \
         enforcing policy refuses it, unless it says: allow exec {path}"
    ))
}

fn describe(text: &mut String, found: &Found, indent: &str) {
    for link in &found.links {
        let (path, why) = (shown(&link.path), link.class.why());
        let _ = write!(text, "{indent}{path}: {why}");
        let _ = match (&link.argument, link.class) {
            (_, Class::NotElf) => writeln!(text, ": execvp(3) hands it to /bin/sh"),
            (Some(argument), Class::Script) => writeln!(text, " (given {})", shown(&argument)),
            _ => writeln!(text),
        };
    }
    if let Some(next) = &found.through_env {
        let _ = writeln!(text, "{indent}env looks up, with the present PATH:");
        describe(text, next, "  ");
    }
}

/// What there is to say about the library's place.
fn library_note(library: &Path) -> Option<String> {
    if File::open(library).is_err() {
        return Some("it cannot be read".into());
    }
    let is_open = |path: &Path, bits: u32| path.metadata().is_ok_and(|m| m.mode() & bits == bits);
    if !is_open(library, 0o004) {
        return Some(
            "other users cannot read it: what a server starts after it has changed its user \
             cannot be intercepted"
                .into(),
        );
    }
    let closed = library.ancestors().skip(1).find(|d| !is_open(d, 0o001))?;
    Some(format!(
        "other users cannot enter {}: what a server starts after it has changed its user cannot \
         be intercepted; scripts/install puts the library where all can read it",
        shown(&closed)
    ))
}
