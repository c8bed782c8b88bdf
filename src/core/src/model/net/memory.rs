//! Where a network's tables lie in memory: one run of words.
//!
//! Plain numbers only, no pointers: the same words may be mapped at different
//! places by several processes, one of which works on them at a time. Whoever
//! scribbles on them gets wrong answers from then on and nothing worse: every
//! number that leads somewhere is checked against the length of what it leads
//! into, and every list is left after as many steps as there are sockets.

use bytemuck::Pod;

use super::counts::{Count, Counts};
use super::tables::Group;
use super::{Bucket, Core, Net, PORTS, Sock};
use crate::model::host::Host;
use crate::model::linux::PathState;

/// The layout that this code reads; any other is refused.
const LAYOUT: u32 = 3;

/// Sockets that a network can have at most: 2^27, so that every number of the
/// tables fits its place.
pub const MOST_SOCKETS: u32 = 1 << 27;

const fn words_of<T>(count: usize) -> usize {
    (size_of::<T>() * count).div_ceil(8)
}

/// Lengths of the tables for so many sockets.
struct Lengths {
    socks: usize,
    heads: usize,
    buckets: usize,
    counts: usize,
}

impl Lengths {
    const fn of(sockets: u32) -> Lengths {
        let socks = if sockets < MOST_SOCKETS {
            sockets as usize
        } else {
            MOST_SOCKETS as usize
        };
        Lengths {
            socks,
            heads: socks.next_power_of_two(),
            buckets: 3 * PORTS,
            // An owner is in eight counts at most: four of its port, four of
            // its address; one place more ends every search.
            counts: (8 * socks + 1).next_power_of_two(),
        }
    }
}

/// The first `count` values of the words, which lose them.
fn take<'m, T: Pod>(words: &mut &'m mut [u64], count: usize) -> Option<&'m mut [T]> {
    let all = core::mem::take(words);
    let (mine, rest) = all.split_at_mut_checked(words_of::<T>(count))?;
    *words = rest;
    bytemuck::cast_slice_mut::<u64, u8>(mine)
        .get_mut(..size_of::<T>() * count)
        .and_then(|bytes| bytemuck::try_cast_slice_mut(bytes).ok())
}

impl<'m> Net<'m> {
    /// Words of memory for a network of so many sockets: 16 MB, and 530 to 720
    /// bytes for each.
    #[must_use]
    pub const fn words(sockets: u32) -> usize {
        let n = Lengths::of(sockets);
        words_of::<Core>(1)
            + words_of::<Sock>(n.socks)
            + words_of::<Group>(n.socks)
            + words_of::<u32>(n.heads)
            + words_of::<Bucket>(n.buckets)
            + words_of::<Count>(n.counts)
    }

    /// A network without sockets in memory that is all zero. `None` if there
    /// are fewer than [`Net::words`].
    #[must_use]
    pub fn format(words: &'m mut [u64], sockets: u32, host: &'m Host) -> Option<Net<'m>> {
        let (core, _) = words.split_at_mut_checked(words_of::<Core>(1))?;
        let core: &mut [Core] = bytemuck::try_cast_slice_mut(core).ok()?;
        *core.first_mut()? = Core::new(LAYOUT, Lengths::of(sockets).socks as u32);
        Net::attach(words, host)
    }

    /// A network in memory that [`Net::format`] has laid out. `None` if it has
    /// not, or for another version of this code.
    #[must_use]
    pub fn attach(words: &'m mut [u64], host: &'m Host) -> Option<Net<'m>> {
        let mut rest = words;
        let core = take::<Core>(&mut rest, 1)?.first_mut()?;
        if core.layout != LAYOUT {
            return None;
        }
        let n = Lengths::of(core.sockets);
        Some(Net {
            host,
            path: PathState::Free,
            chosen: None,
            core,
            socks: take(&mut rest, n.socks)?,
            groups: take(&mut rest, n.socks)?,
            heads: take(&mut rest, n.heads)?,
            buckets: take(&mut rest, n.buckets)?,
            counts: Counts(take::<Count>(&mut rest, n.counts)?),
        })
    }
}
