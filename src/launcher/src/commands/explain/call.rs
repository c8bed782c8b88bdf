//! Calls as `explain` takes them: `bind tcp 0.0.0.0:80 reuseaddr`.

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::model::script::{address, kind_of};
use bindgate_core::policy::Op;
use bindgate_core::socket::SocketType;

use crate::{Failure, exit};

/// One call.
pub struct Call {
    /// What is called.
    pub op: Op,
    /// The socket's family, type and protocol, as for socket(2).
    pub kind: (i32, i32, i32),
    /// The address, as bytes and as a value; none for socket(2), and for a
    /// listen on a socket that is not bound.
    pub addr: Option<(Vec<u8>, Addr)>,
    /// Options that are set on the socket first, by their names in a script.
    pub options: Vec<&'static str>,
    /// As it was written.
    pub text: String,
}

/// What a call may say of its socket.
const OPTIONS: [(&str, &str); 6] = [
    ("reuseaddr", "SO_REUSEADDR"),
    ("reuseport", "SO_REUSEPORT"),
    ("v6only", "IPV6_V6ONLY"),
    ("freebind", "IP_FREEBIND"),
    ("transparent", "IP_TRANSPARENT"),
    ("bind_address_no_port", "IP_BIND_ADDRESS_NO_PORT"),
];

const OPS: [Op; 4] = [Op::Socket, Op::Bind, Op::Listen, Op::Connect];

fn wrong(call: &str, why: &str) -> Failure {
    Failure::new(exit::USAGE, format!("'{call}'"), why)
}

/// The calls of a command line: each is one argument, or, where nobody quoted
/// it, all of them together are one.
pub fn calls(arguments: &[String]) -> Vec<String> {
    let is_op = |word: &str| OPS.iter().any(|op| op.name() == word);
    match arguments {
        [first, second, ..] if is_op(first) && !second.contains(' ') => {
            vec![arguments.join(" ")]
        }
        _ => arguments.to_vec(),
    }
}

impl Call {
    /// Reads one.
    ///
    /// # Errors
    /// The message names the call, and what was expected.
    pub fn parse(text: &str) -> Result<Call, Failure> {
        let words: Vec<_> = text.split_whitespace().collect();
        let expected = "expected: bind KIND ADDRESS [OPTION…], listen KIND [ADDRESS], \
                        connect KIND ADDRESS, or socket KIND";
        let [op, kind, rest @ ..] = words.as_slice() else {
            return Err(wrong(text, expected));
        };
        let op = OPS.into_iter().find(|o| o.name() == *op);
        let op = op.ok_or_else(|| wrong(text, expected))?;
        let is_option = |word: &&str| OPTIONS.iter().any(|(name, _)| name == word);
        let (addr, rest) = match rest {
            [addr, rest @ ..] if op != Op::Socket && !is_option(addr) => (Some(*addr), rest),
            rest => (None, rest),
        };
        if addr.is_none() && matches!(op, Op::Bind | Op::Connect) {
            return Err(wrong(text, expected));
        }
        let addr = addr
            .map(|addr| read_address(text, kind, addr))
            .transpose()?;
        let options = rest
            .iter()
            .map(|word| {
                let known = OPTIONS.iter().find(|(name, _)| name == word);
                known.map(|(_, name)| *name).ok_or_else(|| {
                    let names = OPTIONS.map(|(name, _)| name).join(", ");
                    wrong(text, &format!("'{word}' is not an option: {names}"))
                })
            })
            .collect::<Result<_, _>>()?;
        // `tcp [::]:80` means an IPv6 socket.
        let six = format!("{kind}6");
        let kind = match &addr {
            Some((_, addr)) if addr.family() == af::INET6 => {
                kind_named(&six).or_else(|| kind_named(kind))
            }
            _ => kind_named(kind),
        };
        Ok(Call {
            op,
            kind: kind.ok_or_else(|| wrong(text, "no such kind of socket"))?,
            addr,
            options,
            text: text.to_owned(),
        })
    }

    /// What the socket is.
    pub fn socket(&self) -> SocketType {
        let (domain, ty, protocol) = self.kind;
        SocketType::created(domain, ty, protocol)
    }

    /// The address as a value.
    pub fn at(&self) -> Option<&Addr> {
        self.addr.as_ref().map(|(_, addr)| addr)
    }

    /// Is an option set?
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }
}

/// A kind of a script, or one that the policy knows besides.
fn kind_named(name: &str) -> Option<(i32, i32, i32)> {
    const SCTP: i32 = 132;
    match name {
        "sctp" => Some((af::INET.into(), 1, SCTP)),
        "sctp6" => Some((af::INET6.into(), 1, SCTP)),
        _ => kind_of(name),
    }
}

fn read_address(call: &str, kind: &str, addr: &str) -> Result<(Vec<u8>, Addr), Failure> {
    // A name as rules have it, or as the log has it.
    let family = ["unix", "vsock"].into_iter().find(|f| kind.starts_with(f));
    let whole = match family {
        Some(family) if !addr.starts_with(family) && !addr.starts_with("hex:") => {
            format!("{family}:{addr}")
        }
        _ => addr.to_owned(),
    };
    let addr = whole.as_str();
    let bytes = address(addr).map_err(|e| wrong(call, &e))?;
    let addr = RawAddr::new(&bytes)
        .and_then(|raw| raw.read())
        .ok_or_else(|| wrong(call, "the address cannot be read"))?;
    Ok((bytes, addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_operation_kind_address_and_options() {
        let call = Call::parse("bind tcp [::]:80 v6only reuseaddr")
            .ok()
            .unwrap();
        assert_eq!(call.kind.0, i32::from(af::INET6));
        assert_eq!(call.options, ["IPV6_V6ONLY", "SO_REUSEADDR"]);
        assert!(Call::parse("listen tcp").is_ok_and(|c| c.addr.is_none()));
        assert!(Call::parse("socket raw").is_ok());
        let vsock = Call::parse("bind vsock any:5000").ok().unwrap();
        assert_eq!(vsock.at().unwrap().to_string(), "vsock:any:5000");
        assert!(Call::parse("bind sctp [::]:5000").is_ok_and(|c| c.kind == (10, 1, 132)));
        for broken in [
            "bind",
            "bind tcp",
            "bind tcp 0.0.0.0:80 reusaddr",
            "bnd tcp 0.0.0.0:80",
        ] {
            assert!(Call::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_call_without_quotes_is_one_call() {
        let words = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            calls(&words("bind|tcp|0.0.0.0:80")),
            ["bind tcp 0.0.0.0:80"]
        );
        let two = words("bind tcp 0.0.0.0:80|socket raw");
        assert_eq!(calls(&two), two);
    }
}
