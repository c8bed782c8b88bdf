//! Redirected sockets, by the addresses that their programs believe in: a
//! hook asks here before it redirects one more.

use std::sync::Arc;

use bindgate_core::addr::RawAddr;
use bindgate_core::model::linux::PathState;
use bindgate_core::model::{Cred, SockId};
use bindgate_core::record::{RULE_NONE, Record, Verdict, flag};
use bindgate_core::shared::door::{Answer, Claim, Holder};
use bindgate_core::socket::{BindOptions, SocketType};

use super::space::Space;
use super::table::{Bind, Held, Owner};

/// What there is to say to a claim.
pub enum Found {
    /// The answer.
    Answer(Answer),
    /// This process asked for the address before, and nobody has recorded yet
    /// what became of its bind.
    Pending(Pending),
}

/// A claim without a record.
pub struct Pending {
    /// Slot of the claimant.
    pub process: u32,
    /// What it would be.
    pub holder: Holder,
}

/// The claimant is no more: so is its claim.
pub fn drop_claim(space: &mut Space, cookie: u64) {
    for table in [&mut space.virt, &mut space.table] {
        if let Some(id) = table.by_cookie(cookie).filter(|id| table.is_claimed(*id)) {
            table.forget(id);
        }
    }
}

/// Answers a claim; where nobody holds the address, it is the claimant's from
/// now on.
pub fn answer(space: &mut Space, claim: &Claim) -> Found {
    while let Some(id) = space.virt.conflict(&virtual_bind(claim)) {
        let Some(owner) = space.virt.owner(id) else {
            break;
        };
        let real = owner.elsewhere.as_deref().copied();
        if real == Some(claim.real) && !is_auto(&claim.real) {
            // One virtual address on one real one is the kernel's to judge.
            break;
        }
        let holder = Holder {
            cookie: owner.cookie,
            pid: owner.pid,
        };
        if space.virt.is_claimed(id) {
            let process = owner.process;
            return Found::Pending(Pending { process, holder });
        }
        let v6only = owner.options.has(BindOptions::V6ONLY);
        let kind = space.virt.kind(id);
        if real.is_some_and(|real| space.is_alive(kind, v6only, holder.cookie, &real)) {
            return Found::Answer(Answer::Held(holder));
        }
        space.virt.forget(id);
    }
    while let Some(id) = redirected_there(space, claim) {
        let Some(Held { owner, addr, .. }) = space.table.held(id) else {
            break;
        };
        let holder = Holder {
            cookie: owner.cookie,
            pid: owner.pid,
        };
        if space.table.is_claimed(id) {
            let process = owner.process;
            return Found::Pending(Pending { process, holder });
        }
        let v6only = owner.options.has(BindOptions::V6ONLY);
        let kind = space.table.kind(id);
        if space.is_alive(kind, v6only, holder.cookie, &addr) {
            return Found::Answer(Answer::Held(holder));
        }
        space.table.forget(id);
    }
    let owner = |elsewhere: &RawAddr| Owner {
        process: claim.process,
        pid: claim.pid,
        fd: claim.fd,
        uid: Some(claim.uid),
        program: Arc::from([]),
        cookie: claim.cookie,
        inode: 0,
        since_ns: 0,
        in_run: true,
        on_the_way: false,
        automatic: false,
        rule: RULE_NONE,
        options: claim.options,
        elsewhere: Some(Box::new(*elsewhere)),
    };
    if !is_auto(&claim.virt) {
        let bind = virtual_bind(claim);
        space.virt.bind(&bind, 0, || owner(&claim.real));
        if let Some(id) = space.virt.by_cookie(claim.cookie) {
            space.virt.set_claimed(id, true);
        }
    }
    if !is_auto(&claim.real) {
        let bind = Bind {
            addr: &claim.real,
            ..virtual_bind(claim)
        };
        space.table.claim(&bind, owner(&claim.virt));
    }
    Found::Answer(Answer::Free)
}

fn redirected_there(space: &mut Space, claim: &Claim) -> Option<SockId> {
    if is_auto(&claim.real) {
        return None;
    }
    let real = Bind {
        addr: &claim.real,
        ..virtual_bind(claim)
    };
    space.table.redirected_there(&real, &claim.virt)
}

/// The bind as its program believes that it is made.
fn virtual_bind(claim: &Claim) -> Bind<'_> {
    Bind {
        kind: claim.socket,
        addr: &claim.virt,
        options: claim.options,
        device: claim.device,
        cred: Cred {
            uid: claim.uid,
            ..Cred::ROOT
        },
        by: (claim.process, claim.fd),
        path: PathState::Free,
    }
}

fn is_auto(addr: &RawAddr) -> bool {
    addr.read().is_none_or(|a| a.is_auto())
}

/// The record of a redirected bind: what was claimed is held, or it is not.
pub fn recorded(space: &mut Space, r: &Record, owner: impl FnOnce() -> Owner) {
    let redirected = matches!(r.verdict, Verdict::Move | Verdict::Hide)
        && r.flags & flag::OBSERVED == 0
        && r.cookie != 0;
    if !redirected {
        return;
    }
    let claimed = space.virt.by_cookie(r.cookie);
    if r.errno != 0 {
        if let Some(id) = claimed.filter(|id| space.virt.is_claimed(*id)) {
            space.virt.forget(id);
        }
        return;
    }
    let mut virt = r.asked;
    if let (Some(asked), Some(port)) = (r.asked.read(), r.used.read().and_then(|a| a.port()))
        && asked.is_auto()
    {
        virt = asked.with_port(port).write();
    }
    let Some(id) = claimed else {
        let mut options = r.options;
        options.set(BindOptions::UNKNOWN, false);
        let bind = Bind {
            kind: SocketType {
                domain: r.domain,
                ty: r.ty,
                protocol: r.protocol,
            },
            addr: &virt,
            options,
            device: r.device,
            cred: Cred::ROOT,
            by: (r.process, r.fd),
            path: PathState::Free,
        };
        space.virt.bind(&bind, 0, || Owner {
            elsewhere: Some(Box::new(r.used)),
            ..owner()
        });
        return;
    };
    space.virt.set_claimed(id, false);
    let recorded = owner();
    space.virt.correct(id, |o| {
        *o = Owner {
            elsewhere: Some(Box::new(r.used)),
            ..recorded
        }
    });
}
