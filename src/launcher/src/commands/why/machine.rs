//! A call on this machine, as it is now.

use bindgate_core::addr::{Addr, UnixKind, UnixName, af};
use bindgate_core::errno::Errno;
use bindgate_core::model::table_of;
use bindgate_core::policy::Op;
use bindgate_core::render::HolderState;
use bindgate_core::socket::BindOptions;
use bindgate_core::why::{self, Cause, Facts, Question};
use bindgate_host_live::evidence::{self, Openers};
use bindgate_host_live::machine;
use bindgate_os::{self as sys, diag, process};

use super::print;
use crate::commands::explain::call::{self, Call};
use crate::{Failure, exit, print as to_stdout};

/// Explains each call.
pub fn explain(what: &[String], uid: Option<u32>) -> Result<i32, Failure> {
    let own = process::effective_uid();
    if let Some(uid) = uid
        && uid != own
        && own != 0
    {
        return Err(Failure::say(
            exit::USAGE,
            "why --uid: only root can ask for another user",
        ));
    }
    let mut out = String::new();
    for words in asked(what) {
        let calls = words.iter().map(|text| Call::parse(text));
        let calls: Vec<Call> = calls.collect::<Result<_, _>>()?;
        for (at, call) in calls.iter().enumerate() {
            let answer = Asked::new(call, uid)?.answer(&mut out);
            // One of two families that fails says all there is to say.
            if answer || at + 1 == calls.len() {
                if !answer {
                    succeeds(&mut out, call);
                }
                break;
            }
        }
    }
    to_stdout(&out)?;
    Ok(0)
}

/// The calls that are asked about: of `tcp :8080` the bind of either family.
fn asked(what: &[String]) -> Vec<Vec<String>> {
    let is_op = |word: &str| ["bind", "connect", "listen", "socket"].contains(&word);
    let one = match what {
        // Nobody quoted it.
        [first, second, ..] if !first.contains(' ') && !second.contains(' ') => {
            vec![what.join(" ")]
        }
        _ => call::calls(what),
    };
    let calls = one.into_iter().map(|text| {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        if words.first().is_some_and(|word| is_op(word)) {
            let port = words.get(2).and_then(|at| at.strip_prefix(':'));
            let four = port.map(|port| format!("0.0.0.0:{port}"));
            if let (Some(four), Some(place)) = (&four, words.get_mut(2)) {
                *place = four;
            }
            return vec![words.join(" ")];
        }
        let [kind, at, options @ ..] = words.as_slice() else {
            return vec![text];
        };
        let options = options.join(" ");
        let bind = |at: &str| format!("bind {kind} {at} {options}").trim_end().to_owned();
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match at.strip_prefix(':').or(digits(at).then_some(at)) {
            Some(port) if ["tcp", "udp", "mptcp", "udplite"].contains(kind) => {
                vec![
                    bind(&format!("0.0.0.0:{port}")),
                    bind(&format!("[::]:{port}")),
                ]
            }
            _ => vec![bind(at)],
        }
    });
    calls.collect()
}

fn succeeds(out: &mut String, call: &Call) {
    *out += &match call.op {
        Op::Connect => format!("{} → nothing is seen that would refuse it\n", call.text),
        _ => format!("{} → ok now\n", call.text),
    };
}

/// A call, and who asks.
struct Asked<'a> {
    call: &'a Call,
    addr: Addr,
    uid: u32,
    is_self: bool,
}

impl<'a> Asked<'a> {
    fn new(call: &'a Call, uid: Option<u32>) -> Result<Asked<'a>, Failure> {
        let own = process::effective_uid();
        let wrong = |why: &str| Failure::new(exit::USAGE, format!("'{}'", call.text), why);
        let addr = match call.at() {
            Some(addr) if matches!(call.op, Op::Bind | Op::Connect) => *addr,
            _ => {
                return Err(wrong(
                    "why answers bind KIND ADDRESS and connect KIND ADDRESS",
                ));
            }
        };
        if call.op == Op::Connect && !call.socket().is_stream() {
            return Err(wrong("only a connect of a stream socket is refused"));
        }
        Ok(Asked {
            call,
            addr,
            uid: uid.unwrap_or(own),
            is_self: uid.is_none_or(|uid| uid == own),
        })
    }

    /// Says why it fails; false if it does not.
    fn answer(&self, out: &mut String) -> bool {
        let errno = match self.call.op {
            Op::Connect => Errno::ECONNREFUSED,
            _ => match self.trial() {
                Ok(()) => return false,
                Err(e) => match e.raw_os_error().and_then(Errno::from_linux) {
                    Some(errno) => errno,
                    None => {
                        *out += &format!("{} → {e}\n", self.call.text);
                        return true;
                    }
                },
            },
        };
        let question = Question {
            op: self.call.op,
            kind: self.call.socket(),
            addr: self.addr,
            options: self.options(),
            device: 0,
            uid: Some(self.uid),
            cookie: 0,
            errno,
            at_ns: 0,
        };
        let facts = self.facts(&question);
        let why = why::explain(&question, &facts);
        let listens = |s: &why::Seen| s.state == HolderState::Listening;
        if self.call.op == Op::Connect
            && why.cause == Cause::NotYet
            && facts.sockets.iter().any(listens)
        {
            let text = why.text.split(" answers there by now").next().unwrap_or("");
            if text != why.text {
                *out += &format!(
                    "{} → nothing is seen that would refuse it: {text} would answer\n",
                    self.call.text
                );
                return true;
            }
        }
        print::explained(out, &self.call.text, errno.name(), &why);
        true
    }

    fn options(&self) -> BindOptions {
        let mut options = BindOptions::default();
        for (name, bit) in [
            ("SO_REUSEADDR", BindOptions::REUSEADDR),
            ("SO_REUSEPORT", BindOptions::REUSEPORT),
            ("IPV6_V6ONLY", BindOptions::V6ONLY),
            ("IP_FREEBIND", BindOptions::FREEBIND),
            ("IP_TRANSPARENT", BindOptions::TRANSPARENT),
            ("IP_BIND_ADDRESS_NO_PORT", BindOptions::BIND_ADDRESS_NO_PORT),
        ] {
            options.set(bit, self.call.has(name));
        }
        options
    }

    /// What the kernel answers to the bind, made and undone.
    fn trial(&self) -> std::io::Result<()> {
        if let Addr::Unix(name) = self.addr
            && name.kind == UnixKind::Path
        {
            // The bind would leave a file.
            return path_is_free(&name);
        }
        let six = self.call.kind.0 == i32::from(af::INET6);
        let (ip, freebind, transparent) = match six {
            true => (libc::IPPROTO_IPV6, 78, 75),
            false => (libc::IPPROTO_IP, 15, 19),
        };
        let set: Vec<(i32, i32, i32)> = [
            ("SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR),
            ("SO_REUSEPORT", libc::SOL_SOCKET, libc::SO_REUSEPORT),
            ("IPV6_V6ONLY", libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
            ("IP_FREEBIND", ip, freebind),
            ("IP_TRANSPARENT", ip, transparent),
            ("IP_BIND_ADDRESS_NO_PORT", libc::IPPROTO_IP, 24),
        ]
        .into_iter()
        .filter(|(option, ..)| self.call.has(option))
        .map(|(_, level, name)| (level, name, 1))
        .collect();
        let written = self.addr.write();
        let bind = || diag::try_bind(self.call.socket(), written.bytes(), &set);
        match self.is_self {
            true => bind(),
            // A process of that user's, with what the kernel leaves it.
            false => process::as_user(self.uid, bind)?,
        }
    }

    fn facts(&self, q: &Question) -> Facts {
        let (host, left_out) = machine::host();
        let openers = Openers::look();
        let mut facts = Facts {
            has_more_addresses: left_out.concerns(&q.addr),
            host: Some(Box::new(host)),
            may_bind_low: self.may_bind_low(),
            filters: process::filters(std::process::id()),
            modules: std::fs::read_to_string("/sys/kernel/security/lsm")
                .unwrap_or_default()
                .trim()
                .replace(',', ", "),
            utc_offset: Some(sys::utc_offset(sys::realtime().as_secs() as i64)),
            ..Facts::default()
        };
        let port = q.addr.port().and_then(|port| u16::try_from(port).ok());
        if let Addr::Unix(name) = q.addr {
            let all = machine::unix_sockets();
            let is_abstract = name.kind == UnixKind::Abstract;
            let is_it =
                |s: &&machine::UnixSocket| s.is_named(&name) && (!is_abstract || s.ty == q.kind.ty);
            let found = all.iter().filter(is_it);
            let found = found.filter_map(|s| evidence::seen_unix(s, &openers));
            facts.sockets = found.collect();
            facts.has_file = true;
        } else if let (Some(_), Some(port)) = (table_of(q.kind), port) {
            match machine::inet_sockets(q.kind) {
                Ok(all) => {
                    let there = all.iter().filter(|s| s.port == port && port != 0);
                    facts.sockets = there.map(|s| evidence::seen(q.kind, s, &openers)).collect();
                    facts.sockets.iter_mut().for_each(evidence::ask_options);
                }
                Err(e) => facts.unseen.push(format!(
                    "who has the port, because sock_diag does not answer: {e}"
                )),
            }
            if q.op == Op::Connect {
                facts.elsewhere = evidence::elsewhere(port, "thread-self", &openers);
            }
        }
        facts
    }

    fn may_bind_low(&self) -> Option<bool> {
        const NET_BIND_SERVICE: u32 = 10;
        if !self.is_self {
            return Some(false);
        }
        match process::capabilities()? >> NET_BIND_SERVICE & 1 != 0 {
            false => Some(false),
            true => process::owns_network(),
        }
    }
}

/// What bind(2) would say of a path, without making it.
fn path_is_free(name: &UnixName) -> std::io::Result<()> {
    use bindgate_core::model::linux::PathState;
    use bindgate_host_live::kernel::path::path_state;
    match path_state(name.bytes(), process::effective_uid()) {
        PathState::Free => Ok(()),
        PathState::Exists | PathState::Elsewhere => {
            Err(std::io::Error::from_raw_os_error(libc::EADDRINUSE))
        }
        PathState::Refused(errno) => Err(std::io::Error::from_raw_os_error(errno.linux().into())),
    }
}
