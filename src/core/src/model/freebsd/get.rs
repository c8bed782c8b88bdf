//! `sogetopt` and the levels below it: an option of the socket level gives its
//! bit in `so_options`.

use crate::addr::af;
use crate::model::net::{Ctx, Net, SockId, State};
use crate::model::step::Step;
use crate::model::{Errno, GetOpt, No};

impl Net<'_> {
    pub(in crate::model) fn sogetopt(
        &self,
        id: SockId,
        opt: GetOpt,
        cx: &mut Ctx,
    ) -> Result<u32, No> {
        let s = self.get(id);
        let bit = |on: bool, bit| if on { bit } else { 0 };
        let value = match opt {
            GetOpt::AcceptConn => bit(s.state == State::Listen, 2),
            GetOpt::ReuseAddr => bit(s.reuse != 0, 4),
            GetOpt::ReusePort => bit(s.reuseport(), 0x200),
            GetOpt::ReusePortLb if super::quirks::has_reuseport_lb(self.host.generation) => {
                bit(s.reuseport_lb(), 0x1_0000)
            }
            GetOpt::Type => s.kind.ty.into(),
            GetOpt::V6Only if s.kind.domain == af::INET6 => s.v6only().into(),
            _ => return cx.fail(Step::BsdNoOption, Errno::ENOPROTOOPT),
        };
        cx.pass(Step::GetOk);
        Ok(value)
    }
}
