//! Where Linux generations differ in what a program sees, a function for each
//! difference. `scripts/facts` has a script for each on either side of it.
//!
//! mutants: generation: the running kernel is of one
//!
//! `linux 2.6` stands for what came before 2.6.28.

use crate::model::Generation;

/// Is the whole zero network broadcast, so that its addresses can be bound?
/// Until 5.3 (96125bf9985a, "Allow 0.0.0.0/8 as a valid address range").
#[must_use]
pub fn zero_network_is_broadcast(g: Generation) -> bool {
    g <= Generation::Linux2_6
}

/// Is there a `SO_REUSEPORT`, and with it the fastreuseport cache? Since 3.9
/// (c617f398edd4, "soreuseport: infrastructure").
#[must_use]
pub fn has_reuseport(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Does the bucket remember that all its owners had `SO_REUSEADDR`? Until 6.8,
/// whose "tcp: Check hlist_empty(&tb->bhash2) instead of
/// hlist_empty(&tb->owners)" made that dead code: by then the bucket has its
/// address group.
#[must_use]
pub fn fastreuse_lives(g: Generation) -> bool {
    g <= Generation::Linux6_1
}

/// Does `IP_TRANSPARENT` let foreign addresses pass? Since 2.6.28
/// (b9fb15067ce9, "ipv4: Allow binding to non-local addresses if
/// IP_TRANSPARENT is set").
#[must_use]
pub fn transparent_binds(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Is there a sysctl for the first unprivileged port? Since 4.11
/// (4548b683b781, "Introduce a sysctl that modifies the value of PROT_SOCK").
#[must_use]
pub fn has_unprivileged_start(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Is there `IP_LOCAL_PORT_RANGE`? Since 6.3 (91d0b78c5177, "inet: Add
/// IP_LOCAL_PORT_RANGE socket option"); 6.1 has it by backport.
#[must_use]
pub fn has_port_range(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// May an automatic TCP port have owners at other addresses, and does the
/// search avoid the parity that connect() prefers? Since 4.6 ("tcp/dccp:
/// better use of ephemeral ports in bind()"); before it, any port that nobody
/// has.
#[must_use]
pub fn automatic_ports_are_shared(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// May connect() use a port again once its last bound owner has left? Since
/// 6.18 ("tcp: Update bind bucket state on port release").
#[must_use]
pub fn port_becomes_connectable(g: Generation) -> bool {
    g >= Generation::Linux6_18
}

/// Are there ping sockets? Since 3.0 (c319b4d76b9e, "net: ipv4: add
/// IPPROTO_ICMP socket kind").
#[must_use]
pub fn has_ping(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Can the automatic vsock port be `VMADDR_PORT_ANY` itself? In the module of
/// 2.6's time, whose counter starts at 1024 and looks at the low end only.
#[must_use]
pub fn vsock_may_draw_any(g: Generation) -> bool {
    g <= Generation::Linux2_6
}
