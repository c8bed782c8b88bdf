//! Where FreeBSD's generations differ in what a program sees, a function for
//! each difference. `scripts/facts` has a script for each on either side.

use crate::model::Generation;

/// Does capability mode refuse bind(2)? Since 10.0, which has bindat(2) for
/// that: `kern_bindat`. `kern_bind` of 9.1 asks for the descriptor's right
/// only.
#[must_use]
pub fn capability_mode_refuses(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Is there `SO_REUSEPORT_LB`? Since 12.0.
#[must_use]
pub fn has_reuseport_lb(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Does `in_pcbbind_setup` refuse every address while the host has no IPv4
/// address at all, and `in6_pcbbind` while it has no IPv6 one? Until 13 (marked
/// "XXX broken!" there).
#[must_use]
pub fn needs_an_address(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}

/// Does `in_pcbbind_setup` look at the family? In 9.1 that stands behind
/// `#ifdef notdef`, for programs that forget to set it.
#[must_use]
pub fn looks_at_family(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Does `in_pcbbind_setup` compare `so_options` of both sockets? Since 10.0 (PR
/// 179901): before that the owner's `INP_REUSEPORT` counts, which
/// `SO_REUSEADDR` sets on a socket that is bound to a multicast address by
/// then, and only then.
#[must_use]
pub fn owners_share_by_any_option(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// May two users' sockets share the wildcard by `SO_REUSEPORT`? Until that
/// exemption went to `SO_REUSEPORT_LB` (12.0), and away (14.3).
#[must_use]
pub fn wildcards_of_users_share(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}

/// Does a bind of an IPv6 socket that fails leave `inp_vflag` as the address
/// would have had it? `tcp6_usr_bind` and `udp6_bind` of 9.1; it is restored
/// since 12.
#[must_use]
pub fn failed_bind_keeps_vflag(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}

/// Does `in_pcb_lport_dest` look at IPv4's owners as well for a dual wildcard?
/// Since 14.
#[must_use]
pub fn automatic_ports_of_both(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Is the remainder of a division by the number of automatic ports less one
/// taken without a look at 0? Since 14; before that one port is not drawn.
#[must_use]
pub fn one_port_panics(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Do `::ffff:0.0.0.0`'s sockets stand at the end of the hash chain, the oldest
/// first? `_in_pcbinshash_wild`, since 14.
#[must_use]
pub fn mapped_wildcards_last(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Does soshutdown() answer `ENOTCONN` where there is no connection? Since 11;
/// before that TCP closed for good.
#[must_use]
pub fn shutdown_wants_a_connection(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Is there UDP-Lite? Since 10.1.
#[must_use]
pub fn has_udplite(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Do the protocols refuse to connect a listener? `tcp_usr_connect` since 13;
/// before that `soconnect` does, for every protocol and before anything else.
#[must_use]
pub fn protocols_refuse_listeners(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Does a UDP socket stay in the tables when it is disconnected? Since 14
/// `in_pcbdisconnect` takes it out until it is connected again.
#[must_use]
pub fn disconnected_stay(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}

/// Does connect(2) look for a port that its peer's connections leave free?
/// `in_pcb_lport_dest`, since 13; before that it asks as bind(2) does.
#[must_use]
pub fn automatic_ports_by_peer(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Which of several equal sockets at the wildcard gets a packet: the last of
/// the hash chain? `in_pcblookup_hash_locked` of 9.1; since 14
/// `in_pcblookup_hash_wild_smr` takes the first.
#[must_use]
pub fn last_wildcard_wins(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}

/// Does a listener's child have none of the options by which ports are shared?
/// `solisten_clone`, since 12.
#[must_use]
pub fn children_are_plain(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Do connections within the host end in TIME_WAIT? Until
/// `net.inet.tcp.nolocaltimewait` became 1 (14).
#[must_use]
pub fn local_time_wait(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}
