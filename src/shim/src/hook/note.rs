//! What goes into a record, and what follows from it.

use bindgate_core::infer;
use bindgate_core::record::{Record, flag, stage};
use bindgate_core::socket::SocketType;

/// What a socket is goes into the record.
pub fn describe(record: &mut Record, ty: SocketType) {
    record.domain = ty.domain;
    record.ty = ty.ty;
    record.protocol = ty.protocol;
}

/// The kernel's answer goes into the record.
pub fn answered(record: &mut Record, errno: u16) {
    record.stages |= stage::FORWARD;
    record.flags |= flag::FORWARDED;
    record.kernel = errno;
    record.errno = errno;
    if errno != 0 {
        record.check = infer::check(
            record.call,
            SocketType {
                domain: record.domain,
                ty: record.ty,
                protocol: record.protocol,
            },
            errno,
        );
        record.flags |= flag::INFERRED;
    }
}
