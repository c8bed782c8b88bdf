//! MPTCP: an outer socket with one inner TCP socket (its first subflow), which
//! has the port and makes the connection. In the tables the two are one:
//! `state` and the addresses are the inner one's, `msk_addr` and `msk_port`
//! what getsockname(2) shows.
//!
//! Of an MPTCP connection (both ends are) the subflow's FIN waits until both
//! sides have closed: until then both subflows stay established. One whose
//! other end is TCP (fallback) closes like TCP. How it ends by a reset is not
//! modelled: the outer socket outlives the inner one for a time.

use super::quirks;
use crate::model::net::{NONE, Net, SockId, State};

impl Net<'_> {
    /// Has a connection an MPTCP socket at one end?
    fn has_mptcp_end(&self, id: SockId) -> bool {
        self.get(id).is_mptcp() || self.get(SockId(self.get(id).peer)).is_mptcp()
    }

    /// Would a reset of this connection, or of one that waits at this
    /// listener, meet an MPTCP socket?
    pub(super) fn reset_meets_mptcp(&self, id: SockId) -> bool {
        if self.get(id).state != State::Listen {
            return self.is_connected(id) && self.has_mptcp_end(id);
        }
        let mut at = self.get(id).queue.first;
        (0..self.get(id).queue.len).any(|_| {
            let child = SockId(at);
            at = self.get(child).queue_next;
            self.has_mptcp_end(child)
        })
    }

    /// `__mptcp_check_fallback`, of one that is connected.
    pub(super) fn is_mptcp_fallback(&self, id: SockId) -> bool {
        let s = self.get(id);
        let itself = s.peer == id.0;
        s.state != State::SynSent && (itself || !self.get(SockId(s.peer)).is_mptcp())
    }

    /// `__mptcp_nmpc_sk`: is the outer socket neither closed nor listening?
    pub(super) fn is_mptcp_busy(&self, id: SockId) -> bool {
        let s = self.get(id);
        // mutants: generation: until 6.5
        let has_subflow = || {
            quirks::mptcp_has_subflow(self.host.generation)
                && (s.state == State::SynSent || self.is_mptcp_fallback(id))
        };
        s.is_mptcp() && !matches!(s.state, State::Close | State::Listen) && !has_subflow()
    }

    /// An MPTCP socket whose connection is over: when the outer socket comes
    /// to know of it, and what becomes of the inner one, is a worker's to say.
    pub(super) fn is_mptcp_over(&self, id: SockId) -> bool {
        let s = self.get(id);
        s.is_mptcp() && s.connected() && s.state == State::Close
    }

    /// A subflow without descriptors has come to its end.
    pub(super) fn mptcp_destroy(&mut self, id: SockId) {
        let s = self.get(id);
        if s.is_mptcp() && s.refs == 0 && s.parent == NONE {
            self.inet_put_port(id);
            self.release(id);
        }
    }
}
