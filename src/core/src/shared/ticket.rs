//! How a process joins its run: the text of `BINDGATE_RUN`.
//!
//! `ID.SECRET.PID.POLICY.STATE.MODE[.f][.cFILTERS-CALLS]`: the run's id (16 hex
//! digits), the word that opens it (32 hex digits), the daemon's pid and its two
//! descriptors, `e` if the policy enforces and `o` if it does not, and an `f`
//! if the run has a socket in `/tmp`. Where it has none, one of that name is
//! somebody else's. If the launcher was under seccomp filters, their number
//! follows and the system calls that they let through, in hex digits.
//!
//! Three ways lead in: the daemon's descriptors under `/proc`, which need no
//! socket; the run's abstract Unix name, which works after a change of user, in
//! a chroot and in another mount or pid namespace; and the socket in `/tmp`,
//! which works in another network namespace too.

use core::fmt;

use super::{DOOR, DOOR_FILE, PORTS};

/// What `BINDGATE_RUN` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The run's id.
    pub run: u64,
    /// The word that opens it: hex digits.
    pub secret: [u8; 32],
    /// The daemon's pid, as its own namespace counts.
    pub daemon: u32,
    /// The daemon's descriptor of the policy.
    pub policy: u32,
    /// Its descriptor of the state.
    pub state: u32,
    /// Does the policy enforce? A process that cannot reach its run must not
    /// start then.
    pub enforces: bool,
    /// Has the run a socket in `/tmp`?
    pub has_file: bool,
    /// How many seccomp filters the launcher was under, and the word of the
    /// calls that they let through.
    pub filters: Option<(u32, u64)>,
}

impl Ticket {
    /// Bytes of [`Ticket::hello`].
    pub const HELLO: usize = 40;

    /// Reads what the launcher wrote; `None` if it is anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Ticket> {
        let mut fields = text.split(|c| *c == b'.');
        let id = fields.next().filter(|id| id.len() == 16)?;
        let secret: [u8; 32] = fields.next()?.try_into().ok()?;
        let mut number = || -> Option<u32> {
            let digits = fields.next()?;
            let is_number = digits.iter().all(u8::is_ascii_digit);
            core::str::from_utf8(digits)
                .ok()?
                .parse()
                .ok()
                .filter(|_| is_number)
        };
        let (daemon, policy, state) = (number()?, number()?, number()?);
        let is_hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
        if !is_hex(id) || !is_hex(&secret) {
            return None;
        }
        let mut ticket = Ticket {
            run: u64::from_str_radix(core::str::from_utf8(id).ok()?, 16).ok()?,
            secret,
            daemon,
            policy,
            state,
            enforces: match fields.next()? {
                b"e" => true,
                b"o" => false,
                _ => return None,
            },
            has_file: false,
            filters: None,
        };
        let mut next = fields.next();
        if next == Some(b"f") {
            ticket.has_file = true;
            next = fields.next();
        }
        if let Some([b'c', filters @ ..]) = next {
            // Not str::split_once, which can panic as far as the compiler knows:
            // the shim would carry what a panic takes.
            let mut numbers = filters.split(|c| *c == b'-');
            let mut number = |radix| {
                let digits = core::str::from_utf8(numbers.next()?).ok()?;
                u64::from_str_radix(digits, radix).ok()
            };
            let (count, calls) = (number(10)?, number(16)?);
            ticket.filters = Some((u32::try_from(count).ok()?, calls));
            next = fields.next();
        }
        next.is_none().then_some(ticket)
    }

    /// The run's id in 16 hex digits.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        let mut digits = [0; 16];
        for (i, to) in digits.iter_mut().enumerate() {
            let digit = (self.run >> (60 - 4 * i)) as u32 & 0xf;
            *to = char::from_digit(digit, 16).map_or(b'0', |c| c as u8);
        }
        digits
    }

    /// The run's abstract Unix name, without the NUL before it.
    #[must_use]
    pub fn abstract_name(&self) -> [u8; DOOR.len() + 16] {
        joined(DOOR, &self.id())
    }

    /// The abstract Unix name of its port broker, without the NUL before it.
    #[must_use]
    pub fn ports_name(&self) -> [u8; PORTS.len() + 16] {
        joined(PORTS, &self.id())
    }

    /// The path of its socket in `/tmp`.
    #[must_use]
    pub fn file_name(&self) -> [u8; DOOR_FILE.len() + 16] {
        joined(DOOR_FILE, &self.id())
    }

    /// What a process says at the socket, to be given the run's memory.
    #[must_use]
    pub fn hello(&self, pid: u32, tid: u32) -> [u8; Self::HELLO] {
        let mut ids = [0; 8];
        let numbers = pid.to_ne_bytes().into_iter().chain(tid.to_ne_bytes());
        for (to, byte) in ids.iter_mut().zip(numbers) {
            *to = byte;
        }
        joined(&self.secret, &ids)
    }
}

/// One text after the other.
fn joined<const N: usize>(first: &[u8], second: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    for (to, byte) in all.iter_mut().zip(first.iter().chain(second)) {
        *to = *byte;
    }
    all
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.", self.run)?;
        for byte in self.secret {
            write!(f, "{}", char::from(byte))?;
        }
        let mode = if self.enforces { 'e' } else { 'o' };
        let file = if self.has_file { ".f" } else { "" };
        let (daemon, policy, state) = (self.daemon, self.policy, self.state);
        write!(f, ".{daemon}.{policy}.{state}.{mode}{file}")?;
        match self.filters {
            Some((count, calls)) => write!(f, ".c{count}-{calls:x}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const TICKET: Ticket = Ticket {
        run: 0x00ab_cdef_0123_4567,
        secret: *b"0123456789abcdef0123456789abcdef",
        daemon: 42,
        policy: 5,
        state: 6,
        enforces: true,
        has_file: true,
        filters: None,
    };

    #[test]
    fn what_is_written_is_read() {
        let text = TICKET.to_string();
        assert_eq!(
            text,
            "00abcdef01234567.0123456789abcdef0123456789abcdef.42.5.6.e.f"
        );
        assert_eq!(Ticket::parse(text.as_bytes()), Some(TICKET));
        let other = Ticket {
            enforces: false,
            has_file: false,
            ..TICKET
        };
        assert_eq!(Ticket::parse(other.to_string().as_bytes()), Some(other));
        for ticket in [TICKET, other] {
            let filters = Some((2, 0xf00_0000_0001));
            let ticket = Ticket { filters, ..ticket };
            let text = ticket.to_string();
            assert!(text.ends_with(".c2-f0000000001"), "{text}");
            assert_eq!(Ticket::parse(text.as_bytes()), Some(ticket));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let text = TICKET.to_string();
        for cut in 0..text.len() - 2 {
            assert_eq!(Ticket::parse(&text.as_bytes()[..cut]), None, "{cut}");
        }
        for (from, to) in [
            ("00abcdef", "0gabcdef"),
            (".42.", ".+42."),
            (".42.", "..42."),
            (".e.f", ".x.f"),
            (".e.f", ".e.g"),
            (".e.f", ".e.f.f"),
            (".e.f", ".e.f.c2"),
            (".e.f", ".e.c2-1.f"),
            (".e.f", ".e.f.c-1"),
            (".42.", ".4294967296."),
        ] {
            assert_eq!(Ticket::parse(text.replace(from, to).as_bytes()), None);
        }
    }

    #[test]
    fn the_ways_in_have_the_runs_name() {
        assert_eq!(&TICKET.abstract_name(), b"bindgate/00abcdef01234567");
        assert_eq!(&TICKET.file_name(), b"/tmp/.bindgate-00abcdef01234567");
        let hello = TICKET.hello(1, 2);
        assert_eq!(hello[..32], TICKET.secret);
        assert_eq!(hello[32..36], 1u32.to_ne_bytes());
        assert_eq!(hello[36..], 2u32.to_ne_bytes());
    }
}
