//! Which change would have made a bind succeed: the model is asked again, with one
//! option changed on one side or on both.

use alloc::vec::Vec;

use super::facts::{Facts, Question, Seen};
use super::words::wide;
use crate::addr::{Addr, af};
use crate::model::{
    Ask, Cred, Errno, Fd, Generation, Host, Net, No, Outside, OwnedNet, Pick, Pointer,
};
use crate::socket::{BindOptions, SocketType};

/// A change, and on which side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Change {
    /// The option.
    pub bit: u8,
    /// On the socket that is bound.
    pub here: bool,
    /// On those that have the address.
    pub there: bool,
}

/// The caller, for the model.
pub(super) fn cred(q: &Question, f: &Facts) -> Cred {
    let low = f.may_bind_low.unwrap_or(true);
    Cred {
        net_bind_service: low,
        init_net_bind_service: low,
        ..Cred {
            uid: q.uid.unwrap_or(u32::MAX),
            ..Cred::ROOT
        }
    }
}

/// The bind, for the model.
pub(super) fn ask(q: &Question) -> impl Fn(&[u8]) -> Ask<'_> {
    let (kind, device, uid) = (q.kind, q.device, q.uid.unwrap_or(u32::MAX));
    let mut options = q.options;
    if options.has(BindOptions::UNKNOWN) {
        options = BindOptions(0);
    }
    move |addr| Ask {
        kind,
        addr,
        options,
        device,
        uid,
    }
}

/// The sockets beside the one that is bound.
pub(super) struct Trial<'a> {
    q: &'a Question,
    sockets: Vec<&'a Seen>,
    net: OwnedNet,
}

impl<'a> Trial<'a> {
    /// On the host of the facts, or on one where every address is there.
    pub fn new(q: &'a Question, f: &'a Facts) -> Trial<'a> {
        let mut host = match &f.host {
            Some(host) => **host,
            None => Host::loopback(Generation::Linux6_18),
        };
        // Nothing but an owner is to refuse.
        host.sysctl.nonlocal_bind = true;
        host.sysctl.nonlocal_bind6 = true;
        let own = |s: &&Seen| q.cookie == 0 || s.cookie != q.cookie;
        let sockets: Vec<_> = f.sockets.iter().filter(own).collect();
        let net = OwnedNet::new(host, sockets.len() as u32 + 2);
        Trial { q, sockets, net }
    }

    /// Those in the way, in the order in which the model finds them.
    pub fn in_the_way(&mut self) -> Vec<&'a Seen> {
        let mut all = Vec::new();
        let mut gone: Vec<usize> = Vec::new();
        while let Err(Some(at)) = self.play(None, &gone) {
            let Some(seen) = self.sockets.get(at) else {
                break;
            };
            all.push(*seen);
            gone.push(at);
        }
        all
    }

    /// The changes that would make it succeed, the smallest first.
    pub fn changes(&mut self) -> Vec<Change> {
        let mut found: Vec<Change> = Vec::new();
        let bits = [
            BindOptions::REUSEADDR,
            BindOptions::V6ONLY,
            BindOptions::REUSEPORT,
        ];
        for (here, there) in [(true, false), (false, true), (true, true)] {
            for bit in bits {
                let change = Change { bit, here, there };
                let is_known = found.iter().any(|c| c.bit == bit);
                // An option that would change nothing on this side.
                if is_known || bit == BindOptions::V6ONLY && (here && there || !self.fits(&change))
                {
                    continue;
                }
                if self.play(Some(change), &[]).is_ok() {
                    found.push(change);
                }
            }
        }
        found
    }

    /// Has that side a socket at `[::]`, which alone can be for IPv6 only?
    fn fits(&self, change: &Change) -> bool {
        let any = |a: &Addr| matches!(a, Addr::Inet6 { ip, .. } if *ip == [0; 16]);
        match change.here {
            true => any(&self.q.addr),
            false => self.sockets.iter().any(|s| any(&s.addr)),
        }
    }

    /// The bind, with a change, without those that are gone: the one in the way.
    fn play(&mut self, change: Option<Change>, gone: &[usize]) -> Result<(), Option<usize>> {
        let q = self.q;
        let uid = q.uid.unwrap_or(u32::MAX);
        let cred = Cred { uid, ..Cred::ROOT };
        let mut net: Net<'_> = self.net.net();
        let mut ids = Vec::new();
        for (at, s) in self.sockets.iter().enumerate() {
            if gone.contains(&at) {
                continue;
            }
            let there = change.filter(|c| c.there).map_or(0, |c| c.bit);
            if let Some(id) = outside(q.kind, s, there).and_then(|o| net.adopt(&o)) {
                ids.push((id, at));
            }
        }
        let at = q.addr.write();
        let mut wanted = ask(q)(at.bytes());
        if let Some(change) = change.filter(|c| c.here) {
            wanted.options.set(change.bit, true);
        }
        let mut result = Err(None);
        if let Some(id) = net.open(&wanted, &cred) {
            let to = Pointer::to(at.bytes());
            let answer = net.bind(Fd::Socket(id), to, &cred, Pick::Random(0));
            result = match answer.result {
                Ok(_) => Ok(()),
                Err(No::Errno(Errno::EADDRINUSE)) => Err(answer
                    .holder
                    .and_then(|h| ids.iter().find(|(id, _)| *id == h))
                    .map(|(_, at)| *at)),
                Err(_) => Err(None),
            };
            net.forget(id);
        }
        for (id, _) in ids {
            net.forget(id);
        }
        result
    }
}

fn outside(kind: SocketType, s: &Seen, also: u8) -> Option<Outside> {
    let has =
        |bit: u8| also & bit != 0 || !s.options.has(BindOptions::UNKNOWN) && s.options.has(bit);
    let addr = wide(&s.addr)?;
    // sock_diag tells this one of everybody.
    let v6only = also & BindOptions::V6ONLY != 0 || s.options.has(BindOptions::V6ONLY);
    Some(Outside {
        kind: SocketType {
            domain: match s.addr {
                Addr::Inet6 { .. } => af::INET6,
                _ => af::INET,
            },
            ..kind
        },
        uid: s.uid.unwrap_or(0),
        addr,
        port: u16::try_from(s.addr.port()?).ok()?,
        state: s.model_state(),
        reuse: has(BindOptions::REUSEADDR),
        reuseport: has(BindOptions::REUSEPORT),
        v6only,
        dev: s.device,
    })
}
