//! Where Linux generations differ in what a program sees, a function for each
//! difference. `scripts/facts` has a script for each on either side of it.
//!
//! mutants: generation: the running kernel is of one
//!
//! `linux 2.6` stands for what came before 2.6.28. What a stable release took
//! over is told by Debian's changelogs, which list each stable release's changes.

use crate::model::Generation;

/// Is the whole zero network broadcast, so that its addresses can be bound?
/// Until 5.3 (96125bf9985a, "Allow 0.0.0.0/8 as a valid address range").
#[must_use]
pub fn zero_network_is_broadcast(g: Generation) -> bool {
    !g.since(5, 3)
}

/// Is there a `SO_REUSEPORT`, and with it the fastreuseport cache? Since 3.9
/// (c617f398edd4, "soreuseport: infrastructure").
#[must_use]
pub fn has_reuseport(g: Generation) -> bool {
    g.since(3, 9)
}

/// Does the bucket remember that all its owners had `SO_REUSEADDR`? Until 6.8,
/// whose "tcp: Check hlist_empty(&tb->bhash2) instead of
/// hlist_empty(&tb->owners)" made that dead code: by then the bucket has its
/// address group.
#[must_use]
pub fn fastreuse_lives(g: Generation) -> bool {
    !g.since(6, 8)
}

/// Does `IP_TRANSPARENT` let foreign addresses pass? Since 2.6.28
/// (b9fb15067ce9, "ipv4: Allow binding to non-local addresses if
/// IP_TRANSPARENT is set").
#[must_use]
pub fn transparent_binds(g: Generation) -> bool {
    g.taken_over(3, 0, &[[2, 6, 28]])
}

/// Is there a sysctl for the first unprivileged port? Since 4.11
/// (4548b683b781, "Introduce a sysctl that modifies the value of PROT_SOCK").
#[must_use]
pub fn has_unprivileged_start(g: Generation) -> bool {
    g.since(4, 11)
}

/// Are the local and the main table one? Since 4.1 (0ddcf43d5d4a, "ipv4: FIB
/// Local/MAIN table collapse").
#[must_use]
pub fn local_and_main_are_one(g: Generation) -> bool {
    g.since(4, 1)
}

/// May everybody join groups of audit, sock_diag and RDMA, which have their own
/// checks, and has rtnetlink one for those of multicast routes? Since 3.16, 4.2,
/// 4.12 and 4.18; the model has no generation between 2.6 and those.
#[must_use]
pub fn netlink_lets_more_join(g: Generation) -> bool {
    g.since(4, 18)
}

/// May everybody join groups of the connector? Since 6.6 (bfdfdc2f3b79,
/// "connector/cn_proc: Allow non-root users access").
#[must_use]
pub fn connector_lets_join(g: Generation) -> bool {
    g.since(6, 6)
}

/// Is there `IP_LOCAL_PORT_RANGE`? Since 6.3 (91d0b78c5177, "inet: Add
/// IP_LOCAL_PORT_RANGE socket option") and 6.1.32.
#[must_use]
pub fn has_port_range(g: Generation) -> bool {
    g.taken_over(6, 3, &[[6, 1, 32]])
}

/// May an automatic TCP port have owners at other addresses, and does the
/// search avoid the parity that connect() prefers? Since 4.6 ("tcp/dccp:
/// better use of ephemeral ports in bind()"); before it, any port that nobody
/// has.
#[must_use]
pub fn automatic_ports_are_shared(g: Generation) -> bool {
    g.since(4, 6)
}

/// May connect() use a port again once its last bound owner has left? Since
/// 6.18 ("tcp: Update bind bucket state on port release") and 6.17.8.
#[must_use]
pub fn port_becomes_connectable(g: Generation) -> bool {
    g.taken_over(6, 18, &[[6, 17, 8]])
}

/// Are there ping sockets? Since 3.0 (c319b4d76b9e, "net: ipv4: add
/// IPPROTO_ICMP socket kind").
#[must_use]
pub fn has_ping(g: Generation) -> bool {
    g.since(3, 0)
}

/// Can the automatic vsock port be `VMADDR_PORT_ANY` itself? Until 6.17 and the
/// stable releases of its time ("vsock: Do not allow binding to VMADDR_PORT_ANY").
#[must_use]
pub fn vsock_may_draw_any(g: Generation) -> bool {
    !g.taken_over(6, 17, &[[5, 10, 241], [6, 1, 148], [6, 12, 42], [6, 16, 1]])
}

/// Does the counter of automatic vsock ports start at 1024? Until 5.0
/// (8236b08cf50f, "VSOCK: bind to random port for VMADDR_PORT_ANY").
#[must_use]
pub fn vsock_starts_at_1024(g: Generation) -> bool {
    !g.since(5, 0)
}

/// Is there MPTCP? Since 5.6; Debian builds it since 5.13 ("net: Enable MPTCP").
#[must_use]
pub fn has_mptcp(g: Generation) -> bool {
    g.since(5, 13)
}

/// Is there UDP-Lite? Until 7.1 ("udp: Remove UDP-Lite").
#[must_use]
pub fn has_udplite(g: Generation) -> bool {
    !g.since(7, 1)
}

/// Do only sockets of the internet families take `SO_REUSEPORT`? Since 6.13
/// (5b0af621c3f6, "net: restrict SO_REUSEPORT to inet sockets"), 6.12.9 and
/// 6.1.124.
#[must_use]
pub fn reuseport_is_inet_only(g: Generation) -> bool {
    g.taken_over(6, 13, &[[6, 12, 9], [6, 1, 124]])
}

/// Is there `SO_PASSPIDFD`? Since 6.5 (5e2ff6704a27, "scm: add SO_PASSPIDFD and
/// SCM_PIDFD").
#[must_use]
pub fn has_pass_pidfd(g: Generation) -> bool {
    g.since(6, 5)
}

/// Do only sockets that can be passed credentials take `SO_PASSCRED` and
/// `SO_PASSPIDFD`? Since 6.16 (7d8d93fdde50, "net: Restrict
/// SO_PASS{CRED,PIDFD,SEC} to AF_{UNIX,NETLINK,BLUETOOTH}").
#[must_use]
pub fn pass_is_restricted(g: Generation) -> bool {
    g.since(6, 16)
}

/// Does connect() take a UDP socket out of its reuseport group even if it was
/// bound to an address? Since 6.13 (78c91ae2c6de, "ipv4/udp: Add 4-tuple hash for
/// connected socket": `udp_lib_hash4`).
#[must_use]
pub fn connected_udp_leaves_group(g: Generation) -> bool {
    g.since(6, 13)
}

/// What `vsock_addr_validate` makes of the byte after the CID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VsockFlags {
    /// It must be zero.
    Zero,
    /// Nothing: the byte after it must be zero.
    Ignored,
    /// `VMADDR_FLAG_TO_HOST`, and nothing else.
    Checked,
}

/// Flags are known since 5.11 (dc8eeef73b63, "vm_sockets: Add
/// VMADDR_FLAG_TO_HOST vsock flag"). 5.10.251 has the field and not the check,
/// 5.10.223 neither; the releases between them were not asked.
#[must_use]
pub fn vsock_flags(g: Generation) -> VsockFlags {
    match () {
        () if g.since(5, 11) => VsockFlags::Checked,
        () if g.taken_over(5, 11, &[[5, 10, 251]]) => VsockFlags::Ignored,
        () => VsockFlags::Zero,
    }
}

/// Is a TCP socket that nobody has a descriptor of, waiting to be accepted or
/// closed, taken for root's? So says `sock_i_uid` until 6.17 ("net: remove
/// sock_i_uid()") and 6.16.6.
#[must_use]
pub fn without_socket_is_roots(g: Generation) -> bool {
    !g.taken_over(6, 17, &[[6, 16, 6]])
}

/// Does listen() on a connected Unix socket with a name return 0 and do
/// nothing? Since 6.16 (fd0a109a0f6b, "net, pidfs: prepare for handing out
/// pidfds for reaped sk->sk_peer_pid": `unix_listen` leaves with the 0 of
/// `prepare_peercred`). Seen in 6.18.15 and no more in 6.18.44; which release
/// between them mended it is not known.
#[must_use]
pub fn connected_unix_listens(g: Generation) -> bool {
    g.since(6, 16) && !g.taken_over(7, 0, &[[6, 18, 44]])
}

/// Does a UDP bind to the wildcard look only at the wildcard's chain, if the
/// port's has more than ten sockets? Until 7.0 ("udp: Fix wildcard bind conflict
/// check when using hash2"), 6.1.168, 6.12.80, and one of 6.18 between 6.18.15
/// and 6.18.44: 6.18.21 by its date.
#[must_use]
pub fn udp_wildcard_by_address(g: Generation) -> bool {
    !g.taken_over(7, 0, &[[6, 1, 168], [6, 12, 80], [6, 18, 21]])
}

/// Does an IPv6 socket that is bound to an IPv4-mapped address not see one at
/// `::ffff:0.0.0.0`, nor those at 0.0.0.0 that came after that one? In 6.1 since
/// 6.1.168 ("tcp: Use bhash2 for v4-mapped-v6 non-wildcard address."):
/// `inet_bind2_bucket_match_addr_any` asks for `::` only where the bucket's
/// family, which is that of its first owner, is IPv6.
#[must_use]
pub fn mapped_any_is_not_seen(g: Generation) -> bool {
    g.taken_over(6, 2, &[[6, 1, 168]]) && !g.since(6, 2)
}

/// Does an MPTCP socket take `IP_BIND_ADDRESS_NO_PORT` and
/// `IP_LOCAL_PORT_RANGE`? Since 6.8 (c85636a29259, "mptcp: sockopt: support
/// IP_LOCAL_PORT_RANGE and IP_BIND_ADDRESS_NO_PORT").
#[must_use]
pub fn mptcp_has_port_options(g: Generation) -> bool {
    g.since(6, 8)
}

/// Does `mptcp_disconnect` (a refused connect(), a listener that is shut down) leave
/// SO_LINGER with time 0 on the subflow, so that its next connection, or its
/// children's, ends by a reset? Until 6.18 (fff0c8799667, "mptcp: decouple mptcp
/// fastclose from tcp close"), 6.1.159, 6.6.118, 6.12.60 and 6.17.10; seen on 6.16.12.
#[must_use]
pub fn mptcp_disconnect_lingers(g: Generation) -> bool {
    !g.taken_over(6, 18, &[[6, 1, 159], [6, 6, 118], [6, 12, 60], [6, 17, 10]])
}

/// Does the subflow of an MPTCP socket that has fallen back to TCP, or has no
/// answer yet, decide bind() and the options of the socket level? So in 6.1, where
/// `__mptcp_nmpc_socket` refuses only what MPTCP has been acknowledged for. In
/// 6.12 `__mptcp_nmpc_sk` asks for the state; since 6.5, by the sources alone.
#[must_use]
pub fn mptcp_has_subflow(g: Generation) -> bool {
    !g.since(6, 5)
}

/// Is the lowest address of a network broadcast, as the highest is? Until 5.14
/// ("ip: Treat IPv4 segment's lowest address as unicast").
#[must_use]
pub fn lowest_address_is_broadcast(g: Generation) -> bool {
    !g.since(5, 14)
}

/// Is a vsock socket in no table any more once its other side has shut down? Since
/// 6.7 and 6.1.63 (3a5cc90a4d17, "vsock/virtio: remove socket from connected/bound
/// list on shutdown"), not in 5.10: `virtio_transport_recv_connected`.
#[must_use]
pub fn vsock_shutdown_removes(g: Generation) -> bool {
    g.taken_over(6, 7, &[[6, 1, 63]])
}

/// Are there vsock sockets of `SOCK_SEQPACKET`? Since 5.14 (a9e29e5511b9,
/// "af_vsock: update functions for connectible socket").
#[must_use]
pub fn has_vsock_seqpacket(g: Generation) -> bool {
    g.since(5, 14)
}

/// Does connect() walk a socket's own `IP_LOCAL_PORT_RANGE` port by port, not the
/// even offsets first? Since 6.8 (207184853dbd, "tcp/dccp: change source port
/// selection at connect() time").
#[must_use]
pub fn own_range_is_walked(g: Generation) -> bool {
    g.since(6, 8)
}

/// Do `ip_nonlocal_bind`, `IP_FREEBIND` and `IP_TRANSPARENT` count for raw sockets?
/// Since 5.17 (8ff978b8b222, "ipv4/raw: support binding to nonlocal addresses").
#[must_use]
pub fn raw_binds_nonlocal(g: Generation) -> bool {
    g.since(5, 17)
}

/// Can a program be attached to an unbound socket whose `SO_REUSEPORT` is off
/// again, if it was attached to once? `reuseport_attach_prog` in 5.10 asks whether
/// there is a group; in 6.1 no more. The release between them is not known.
#[must_use]
pub fn group_outlives_reuseport(g: Generation) -> bool {
    !g.since(6, 1)
}

/// Does a datagram or raw socket lose the device again that the scope id of a
/// failed connect() gave it? 6.12.118 does; 6.12.117, 6.16.12, 6.18.44 and 7.3.4
/// do not. Which release brought it upstream is not known: one after 7.3.
#[must_use]
pub fn failed_connect_gives_device_back(g: Generation) -> bool {
    g.taken_over(7, 4, &[[6, 12, 118]])
}
