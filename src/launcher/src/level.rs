//! What the library may do under the seccomp filters that bind the launcher
//! too.
//!
//! Every process of an ordinary container, and of a systemd unit with
//! `SystemCallFilter=`, is under such filters from its first instruction. The
//! programs of a run are under the same ones, so the launcher tries the calls
//! of the library and hands on which ones work.

use std::fmt::Write as _;

use bindgate_core::policy::{Action, Op, Policy, TargetSpec, View};
use bindgate_sys::allowed::needs;
use bindgate_sys::{Allowed, Call, Calls, filter};

/// The filters that bind the launcher.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// How many there are; `None` where the kernel does not say.
    count: Option<u32>,
    /// The calls that they let through.
    calls: Calls,
}

/// What is lost without certain calls.
struct Loss {
    /// The calls that it takes.
    needs: Calls,
    /// A full sentence.
    text: &'static str,
    /// Does the policy need it?
    matters: fn(&Policy, &View<'_>) -> bool,
}

const LOSSES: [Loss; 6] = [
    Loss {
        needs: needs::IDENTIFY,
        text: "Sockets cannot be identified: where a rule depends on more than the address, \
               a deny matches and an allow does not.",
        matters: |policy, _| !policy.rules.is_empty(),
    },
    Loss {
        needs: needs::USER,
        text: "Users cannot be told apart: a deny with `user` matches, an allow with it does not.",
        matters: |_, view| Op::ALL.iter().any(|op| view.needs_user(*op)),
    },
    Loss {
        needs: needs::REDIRECT,
        text: "Sockets cannot be redirected: move and hide are refused with EACCES.",
        matters: |policy, _| {
            let redirects = |action: &Action| matches!(action, Action::Move(_) | Action::Hide);
            policy.rules.iter().any(|rule| redirects(&rule.action))
        },
    },
    Loss {
        needs: needs::REDIRECT_TO_UNIX,
        text: "Sockets of another family cannot be redirected to a Unix socket: such a move \
               is refused with EACCES.",
        matters: |policy, _| {
            policy.rules.iter().any(|rule| {
                matches!(
                    rule.action,
                    Action::Move(TargetSpec::Path(_) | TargetSpec::Abstract(_))
                )
            })
        },
    },
    Loss {
        needs: needs::LOOK_AT_PROGRAM,
        text: "Programs cannot be looked at before they start: one that bindgate cannot \
               intercept starts although the policy enforces.",
        matters: |_, view| view.is_enforcing(),
    },
    Loss {
        needs: Calls::of(&[Call::SocketOther]),
        text: "AF_VSOCK sockets cannot be made; where a rule can move them to a Unix socket, one \
               is made in their place.",
        matters: |_, _| false,
    },
];

impl Inherited {
    /// Looks for filters, and tries what they let through; `None` if there are
    /// none.
    pub fn find() -> Option<Inherited> {
        let all = Allowed::ALL;
        filter::is_there(all).then(|| Inherited {
            count: filter::count(all),
            calls: filter::trial(),
        })
    }

    /// What `BINDGATE_RUN` says of it. Nothing where the filters cannot be
    /// counted: a process of the run could not know whether it has others.
    pub fn for_ticket(&self) -> Option<(u32, u64)> {
        Some((self.count?, self.calls.word()))
    }

    /// The calls that the processes of a run may make.
    fn usable(&self) -> Calls {
        match self.count {
            Some(_) => self.calls,
            None => Calls::NONE,
        }
    }

    /// What is lost.
    fn losses(&self) -> impl Iterator<Item = &'static Loss> {
        let usable = self.usable();
        LOSSES
            .iter()
            .filter(move |loss| !usable.has_all(loss.needs))
    }

    /// Which level holds: what is there, and whether something is lost.
    fn level(&self) -> String {
        let (are_there, they_let) = match self.count {
            None => return format!("seccomp: {UNCOUNTED}"),
            Some(1) => ("1 filter is".to_owned(), "it lets"),
            Some(n) => (format!("{n} filters are"), "they let"),
        };
        let what = match self.losses().next() {
            None => format!("{they_let} through all that bindgate needs, and nothing is lost"),
            Some(_) => "this is lost:".to_owned(),
        };
        format!("seccomp: {are_there} there, as in a container; {what}")
    }

    /// What `run --verbose` says: the level, and what is lost at it.
    pub fn line(&self) -> String {
        self.losses()
            .fold(self.level(), |line, loss| line + " " + loss.text)
    }

    /// What is lost and the policy needs, as sentences; empty if it is nothing.
    pub fn warning(&self, policy: &Policy, view: &View<'_>) -> String {
        let mut text = String::new();
        for loss in self.losses().filter(|loss| (loss.matters)(policy, view)) {
            let _ = write!(text, " {}", loss.text);
        }
        if text.is_empty() {
            return text;
        }
        let why = match self.count {
            Some(_) => "the seccomp filter here forbids calls that bindgate needs.",
            None => UNCOUNTED,
        };
        format!("{why}{text}")
    }
}

/// Why nothing may be done although it works.
const UNCOUNTED: &str = "a seccomp filter is there, and this kernel does not say how many bind a \
                         process (Linux 5.9 does): bindgate makes no system call of its own.";

/// What `doctor` says about the filters that are there.
pub fn describe() -> String {
    let Some(inherited) = Inherited::find() else {
        return "seccomp: no filter is there; nothing is lost\n".into();
    };
    let mut text = inherited.level() + "\n";
    for loss in inherited.losses() {
        let _ = writeln!(text, "  {}", loss.text);
    }
    text
}
