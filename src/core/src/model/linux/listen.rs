//! `inet_listen`.

use crate::addr::af;
use crate::model::net::{Ctx, Net, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Answer, Cred, Errno, No, Pick};
use crate::socket::ty;

impl Net<'_> {
    /// listen(2). Only FreeBSD asks who calls.
    pub fn listen(&mut self, id: SockId, cred: &Cred, pick: Pick) -> Answer<()> {
        let mut cx = Ctx::new(pick);
        let result = if self.host.generation.is_freebsd() {
            self.solisten(id, cred, &mut cx)
        } else {
            self.do_listen(id, &mut cx)
        };
        Answer::of(result, &cx)
    }

    fn do_listen(&mut self, id: SockId, cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        match (s.kind.domain, s.kind.ty) {
            (af::INET | af::INET6, ty::STREAM) => self.inet_listen(id, cx),
            (af::UNIX, _) => self.unix_listen(id, cx),
            (af::VSOCK, _) => self.vsock_listen(id, cx),
            _ => cx.fail(Step::ListenUnsupported, Errno::EOPNOTSUPP),
        }
    }

    /// `inet_listen`: a second look at the port, as a listener.
    fn inet_listen(&mut self, id: SockId, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        match s.state {
            _ if s.connected() => return cx.fail(Step::ListenState, Errno::EINVAL),
            State::Listen => {
                cx.pass(Step::ListenAgain);
                return Ok(());
            }
            State::Close => {}
            _ => return cx.fail(Step::ListenState, Errno::EINVAL),
        }
        self.edit(id, |s| s.state = State::Listen);
        if let Err(e) = self.inet_csk_get_port(id, s.num as u16, cx) {
            self.edit(id, |s| s.state = State::Close);
            cx.pass(Step::ListenConflict);
            return Err(e);
        }
        self.reuseport_add_sock(id, |s| s.state == State::Listen);
        self.mptcp_copy_inaddrs(id);
        cx.pass(Step::ListenOk);
        debug_assert!(self.get(id).table == Table::Tcp);
        Ok(())
    }
}
