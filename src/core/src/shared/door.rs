//! What processes of a run say at its door, and what they are told: the bytes
//! of the messages.
//!
//! Each message begins with the run's secret. Its length tells what it is: a
//! process that wants the run's memory says [`HELLO`] bytes, one that asks
//! about an address [`Claim::LEN`].

use crate::addr::{RawAddr, STORAGE};
use crate::socket::{BindOptions, SocketType};
use crate::text::fill;

/// Length of the secret: hexadecimal digits.
pub const SECRET: usize = 32;
/// What a launcher of the same user, or of root, says that wants to know what is
/// bound in the run: the answer is a descriptor of a memory file with lines of
/// JSON. It knows no secret, and is known by its user.
pub const LIST: &[u8; 16] = b"bindgate: list 1";
/// The same for one that wants to run a command in the run: the answer is the
/// run's ticket and the path of the library with a NUL between, and descriptors
/// of the network's and the user's namespace if the run has a network of its
/// own.
pub const ENTER: &[u8; 16] = b"bindgate: exec 1";
/// The same for one that waits for a server: what follows says for which sockets, as a
/// rule does. The answer, which may take as long as the run, is what is said of the first
/// one: its process id, its address as its program believes and really, and its program,
/// with NULs between.
pub const WAIT: &[u8; 16] = b"bindgate: wait 1";
/// The same for one that wants a signal sent to each process of the run: its number is
/// the byte that follows. The answer is to how many it was sent.
pub const SIGNAL: &[u8; 16] = b"bindgate: kill 1";
/// Length of the message of a process that joins: secret, pid, tid.
pub const HELLO: usize = SECRET + 4 + 4;
/// Length of the message that comes with the run's memory: how many seccomp
/// filters bind the process that joins.
pub const HANDED_OUT: usize = 4;

/// What stands in that message.
#[must_use]
pub const fn handed_out(filters: Option<u32>) -> [u8; HANDED_OUT] {
    match filters {
        Some(count) => count.to_ne_bytes(),
        None => u32::MAX.to_ne_bytes(),
    }
}

/// What it says; `None` if the daemon does not know either.
#[must_use]
pub const fn filters(message: [u8; HANDED_OUT]) -> Option<u32> {
    match u32::from_ne_bytes(message) {
        u32::MAX => None,
        count => Some(count),
    }
}

/// Bytes of an address: its length, and room for the longest.
const ADDR: usize = 4 + STORAGE;

/// "I am about to bind this socket elsewhere than its program asks: does
/// anybody of the run hold either address?" If nobody does, the virtual address
/// is the asker's from then on, until its record says that the bind failed, or
/// the kernel that the socket is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Slot of the process table.
    pub process: u32,
    /// Process id, as the process sees itself.
    pub pid: u32,
    /// The descriptor.
    pub fd: i32,
    /// Effective user id.
    pub uid: u32,
    /// Family, type and protocol that the program believes in.
    pub socket: SocketType,
    /// The options that decide, [`BindOptions::UNKNOWN`] not among them.
    pub options: BindOptions,
    /// The index of the socket's device, or 0.
    pub device: u32,
    /// `SO_COOKIE`: the same that the record of the bind will have.
    pub cookie: u64,
    /// Where the program asks to be.
    pub virt: RawAddr,
    /// Where it will really be; with port 0 for one of the kernel's choice.
    pub real: RawAddr,
}

impl Claim {
    /// Length of the message, the secret included.
    pub const LEN: usize = SECRET + 40 + 2 * ADDR;

    /// The message.
    #[must_use]
    pub fn to_bytes(&self, secret: &[u8; SECRET]) -> [u8; Self::LEN] {
        let mut to = [0; Self::LEN];
        let mut rest = &mut to[..];
        let mut put = |bytes: &[u8]| {
            let all = core::mem::take(&mut rest);
            if let Some((mine, others)) = all.split_at_mut_checked(bytes.len()) {
                fill(mine, bytes);
                rest = others;
            }
        };
        put(secret);
        for n in [self.process, self.pid, self.fd.cast_unsigned(), self.uid] {
            put(&n.to_ne_bytes());
        }
        let SocketType {
            domain,
            ty,
            protocol,
        } = self.socket;
        for n in [domain, ty, protocol, u16::from(self.options.0)] {
            put(&n.to_ne_bytes());
        }
        put(&u64::from(self.device).to_ne_bytes());
        put(&self.cookie.to_ne_bytes());
        for addr in [&self.virt, &self.real] {
            let bytes = addr.bytes();
            put(&(bytes.len() as u32).to_ne_bytes());
            put(bytes);
            const ZEROS: [u8; STORAGE] = [0; STORAGE];
            put(ZEROS.get(bytes.len()..).unwrap_or(&[]));
        }
        to
    }

    /// Reads what follows the secret; `None` if no shim wrote it.
    #[must_use]
    pub fn from_bytes(message: &[u8; Self::LEN]) -> Option<Claim> {
        let u16_at = |at: usize| {
            let bytes = message.get(SECRET + at..SECRET + at + 2)?;
            Some(u16::from_ne_bytes(bytes.try_into().ok()?))
        };
        let u32_at = |at: usize| {
            let bytes = message.get(SECRET + at..SECRET + at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let u64_at = |at: usize| {
            let bytes = message.get(SECRET + at..SECRET + at + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        let addr_at = |at: usize| {
            let len = u32_at(at)? as usize;
            let bytes = message.get(SECRET + at + 4..SECRET + at + ADDR)?;
            RawAddr::new(bytes.get(..len)?)
        };
        Some(Claim {
            process: u32_at(0)?,
            pid: u32_at(4)?,
            fd: u32_at(8)?.cast_signed(),
            uid: u32_at(12)?,
            socket: SocketType {
                domain: u16_at(16)?,
                ty: u16_at(18)?,
                protocol: u16_at(20)?,
            },
            options: BindOptions(u8::try_from(u16_at(22)?).ok()?),
            device: u32::try_from(u64_at(24)?).ok()?,
            cookie: u64_at(32)?,
            virt: addr_at(40)?,
            real: addr_at(40 + ADDR)?,
        })
    }
}

/// The answer to a [`Claim`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nobody holds it; now the asker does.
    Free,
    /// Somebody of the run does.
    Held(Holder),
}

/// Which call the run's host is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum HostCall {
    /// socket(2)
    Socket = 1,
    /// bind(2)
    Bind,
    /// listen(2)
    Listen,
    /// connect(2), or a send that names a peer.
    Connect,
}

impl HostCall {
    fn of(n: u64) -> Option<HostCall> {
        let all = [
            HostCall::Socket,
            HostCall::Bind,
            HostCall::Listen,
            HostCall::Connect,
        ];
        all.into_iter().find(|call| *call as u64 == n)
    }
}

/// "The run is on a host that the policy describes: may this call be made?" Of the
/// claim [`Claim::virt`] is the address, and [`Claim::real`] nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskHost {
    /// The call.
    pub call: HostCall,
    /// Who makes it, on which socket, with which address.
    pub claim: Claim,
}

impl AskHost {
    /// Length of the message, the secret included.
    pub const LEN: usize = Claim::LEN + 8;

    /// The message.
    #[must_use]
    pub fn to_bytes(&self, secret: &[u8; SECRET]) -> [u8; Self::LEN] {
        let mut to = [0; Self::LEN];
        if let Some((claim, call)) = to.split_first_chunk_mut() {
            *claim = self.claim.to_bytes(secret);
            fill(call, &(self.call as u64).to_ne_bytes());
        }
        to
    }

    /// Reads what follows the secret; `None` if no shim wrote it.
    #[must_use]
    pub fn from_bytes(message: &[u8; Self::LEN]) -> Option<AskHost> {
        let (claim, call) = message.split_first_chunk()?;
        Some(AskHost {
            call: HostCall::of(u64::from_ne_bytes(call.try_into().ok()?))?,
            claim: Claim::from_bytes(claim)?,
        })
    }
}

/// What the host says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostSays {
    /// Its error, or 0: the call may be made.
    pub errno: u16,
    /// The check of the model that decided, as its place in
    /// [`Step::ALL`](crate::model::Step::ALL). Of a socket(2) that may be made: 1 if
    /// the new socket has `IPV6_V6ONLY`.
    pub step: u16,
    /// `SO_COOKIE` of the socket in the way, or 0.
    pub holder: u64,
    /// With which address; nothing for the one that was asked for.
    pub at: RawAddr,
}

impl HostSays {
    /// Length of the message.
    pub const LEN: usize = 12 + ADDR;
    /// As asked.
    pub const YES: HostSays = HostSays {
        errno: 0,
        step: 0,
        holder: 0,
        at: RawAddr::EMPTY,
    };

    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut to = [0; Self::LEN];
        let [a, b] = self.errno.to_ne_bytes();
        let [c, d] = self.step.to_ne_bytes();
        let bytes = self.at.bytes();
        let head = [[a, b, c, d], (bytes.len() as u32).to_ne_bytes()];
        let mut rest = &mut to[..];
        for part in [head.as_flattened(), &self.holder.to_ne_bytes(), bytes] {
            let all = core::mem::take(&mut rest);
            if let Some((mine, others)) = all.split_at_mut_checked(part.len()) {
                fill(mine, part);
                rest = others;
            }
        }
        to
    }

    /// Reads the message; `None` if no daemon wrote it.
    #[must_use]
    pub fn from_bytes(message: &[u8; Self::LEN]) -> Option<HostSays> {
        let (errno, rest) = message.split_first_chunk()?;
        let (step, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (holder, at) = rest.split_first_chunk()?;
        let errno = u16::from_ne_bytes(*errno);
        let at = at.get(..u32::from_ne_bytes(*len) as usize)?;
        (errno <= 4095).then_some(HostSays {
            errno,
            step: u16::from_ne_bytes(*step),
            holder: u64::from_ne_bytes(*holder),
            at: RawAddr::new(at)?,
        })
    }
}

/// Who holds an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// `SO_COOKIE` of the socket: what goes into `Record::holder`.
    pub cookie: u64,
    /// The process that bound it, as it sees itself.
    pub pid: u32,
}

impl Answer {
    /// Length of the message.
    pub const LEN: usize = 16;

    /// The message.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let (held, holder) = match self {
            Answer::Free => (0, Holder { cookie: 0, pid: 0 }),
            Answer::Held(holder) => (1u32, holder),
        };
        let [a, b, c, d] = held.to_ne_bytes();
        let [e, f, g, h] = holder.pid.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = holder.cookie.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Reads the message; `None` if no daemon wrote it.
    #[must_use]
    pub fn from_bytes(message: &[u8; Self::LEN]) -> Option<Answer> {
        let (held, rest) = message.split_first_chunk()?;
        let (pid, rest) = rest.split_first_chunk()?;
        let cookie = u64::from_ne_bytes(rest.try_into().ok()?);
        match u32::from_ne_bytes(*held) {
            0 => Some(Answer::Free),
            1 => Some(Answer::Held(Holder {
                cookie,
                pid: u32::from_ne_bytes(*pid),
            })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let claim = Claim {
            process: 1,
            pid: 2,
            fd: -3,
            uid: 4,
            socket: SocketType::created(10, 1, 0),
            options: BindOptions(BindOptions::V6ONLY),
            device: 5,
            cookie: u64::MAX,
            virt: RawAddr::new(&[7; 28]).unwrap(),
            real: RawAddr::new(&[9; 128]).unwrap(),
        };
        let bytes = claim.to_bytes(&[b'a'; SECRET]);
        assert_eq!(bytes[..SECRET], [b'a'; SECRET]);
        assert_eq!(Claim::from_bytes(&bytes), Some(claim));
        let mut long = bytes;
        long[SECRET + 40] = 200;
        assert_eq!(Claim::from_bytes(&long), None);
        let asked = AskHost {
            call: HostCall::Connect,
            claim,
        };
        let mut bytes = asked.to_bytes(&[b'a'; SECRET]);
        assert_eq!(AskHost::from_bytes(&bytes), Some(asked));
        bytes[Claim::LEN] = 9;
        assert_eq!(AskHost::from_bytes(&bytes), None);
        let says = HostSays {
            errno: 98,
            step: 7,
            holder: u64::MAX,
            at: claim.virt,
        };
        assert_eq!(HostSays::from_bytes(&says.to_bytes()), Some(says));
        let nothing = HostSays::YES;
        assert_eq!(HostSays::from_bytes(&nothing.to_bytes()), Some(nothing));
        assert_eq!(HostSays::from_bytes(&[0xff; HostSays::LEN]), None);
        let holder = Holder { cookie: 8, pid: 9 };
        for answer in [Answer::Free, Answer::Held(holder)] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
        assert_eq!(Answer::from_bytes(&[7; 16]), None);
    }
}
