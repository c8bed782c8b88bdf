//! The checks that a call passes, each with the kernel function it stands in.

use core::fmt;

macro_rules! steps {
    ($($name:ident = $function:literal, $what:literal;)*) => {
        /// A check of a kernel. The last one of a [`Trail`] decided.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        #[allow(missing_docs)]
        pub enum Step { $($name,)* }

        impl Step {
            /// Every check.
            pub const ALL: &'static [Step] = &[$(Step::$name,)*];

            /// The kernel function.
            #[must_use]
            pub const fn function(self) -> &'static str {
                match self { $(Step::$name => $function,)* }
            }

            /// What it found.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Step::$name => $what,)* }
            }
        }
    };
}

steps! {
    SysBindBadFd = "__sys_bind", "no such descriptor";
    SysBindNotSocket = "__sys_bind", "not a socket";
    SysBindLength = "move_addr_to_kernel", "length is negative or above 128";
    SysBindFault = "move_addr_to_kernel", "address cannot be read";
    SockTypeFlags = "__sys_socket", "unknown bits in the type";
    SockFamilyRange = "__sock_create", "family number out of range";
    SockTypeRange = "__sock_create", "type number out of range";
    SockFamilyUnknown = "__sock_create", "family is not registered";
    SockCreated = "__sock_create", "created";
    InetCreateProtocolRange = "inet_create", "protocol number out of range";
    InetCreateType = "inet_create", "no protocol of this type";
    InetCreateProtocol = "inet_create", "type has no such protocol";
    InetCreateRaw = "inet_create", "raw needs CAP_NET_RAW";
    PingInitGroups = "ping_init_sock", "group not in ping_group_range";
    UnixCreateProtocol = "unix_create", "protocol is neither 0 nor PF_UNIX";
    UnixCreateType = "unix_create", "no such type";
    VsockCreateProtocol = "vsock_create", "protocol is neither 0 nor PF_VSOCK";
    VsockCreateType = "vsock_create", "no such type";
    VsockCreateDgram = "vsock_assign_transport", "no datagram transport";
    NetlinkCreateType = "netlink_create", "neither raw nor datagram";
    NetlinkCreateProtocol = "netlink_create", "no such protocol";
    PacketCreatePerm = "packet_create", "needs CAP_NET_RAW";
    PacketCreateType = "packet_create", "no such type";
    InetBindLength = "inet_bind_sk", "address shorter than sockaddr_in";
    InetBindFamily = "__inet_bind", "family is neither AF_INET nor AF_UNSPEC with 0.0.0.0";
    InetBindUnspec = "__inet_bind", "AF_UNSPEC with 0.0.0.0 passes";
    InetBindNotLocal = "__inet_bind", "address is not local";
    InetBindNonlocal = "inet_addr_valid_or_nonlocal", "foreign address allowed by option or sysctl";
    InetBindPrivileged = "__inet_bind", "privileged port without CAP_NET_BIND_SERVICE";
    InetBindBound = "__inet_bind", "not closed, or has a port already";
    InetBindAddressOnly = "__inet_bind", "address only, IP_BIND_ADDRESS_NO_PORT";
    InetBindOk = "__inet_bind", "bound";
    Inet6BindLength = "inet6_bind_sk", "address shorter than 24 bytes";
    Inet6BindFamily = "__inet6_bind", "family is not AF_INET6";
    Inet6BindMulticastStream = "__inet6_bind", "multicast on a stream socket";
    Inet6BindPrivileged = "__inet6_bind", "privileged port without CAP_NET_BIND_SERVICE";
    Inet6BindBound = "__inet6_bind", "not closed, or has a port already";
    Inet6BindMappedV6only = "__inet6_bind", "IPv4-mapped address on a V6ONLY socket";
    Inet6BindNoDevice = "__inet6_bind", "no such device";
    Inet6BindMappedNotLocal = "__inet6_bind", "IPv4-mapped address is not local";
    Inet6BindScopeSet = "__inet6_bind", "scope id becomes the device";
    Inet6BindNoScope = "__inet6_bind", "link-local address without a device";
    Inet6BindNotLocal = "__inet6_bind", "address is not local";
    Inet6BindV6only = "__inet6_bind", "specific address turns V6ONLY on";
    Inet6BindAddressOnly = "__inet6_bind", "address only, IP_BIND_ADDRESS_NO_PORT";
    Inet6BindOk = "__inet6_bind", "bound";
    CskNewBucket = "inet_csk_get_port", "nobody has the port";
    CskForceReuse = "inet_csk_get_port", "TCP_REPAIR skips the tests";
    CskFastReuse = "inet_csk_get_port", "fastreuse cache skips the tests";
    CskFastReuseport = "sk_reuseport_match", "fastreuseport cache skips the tests";
    CskAnyConflict = "inet_bhash2_addr_any_conflict", "a wildcard owner conflicts";
    CskSameConflict = "inet_bhash2_conflict", "an owner of the same address conflicts";
    CskConflict = "inet_csk_bind_conflict", "an owner conflicts";
    CskShared = "inet_csk_bind_conflict", "no owner conflicts";
    CskUpdateClear = "inet_csk_update_fastreuse", "fastreuseport cache cleared";
    CskUpdateSet = "inet_csk_update_fastreuse", "fastreuseport cache set";
    CskUpdateKeep = "inet_csk_update_fastreuse", "fastreuseport cache kept";
    CskOpenPort = "inet_csk_find_open_port", "automatic port";
    CskRelaxed = "inet_csk_find_open_port", "second scan, ip_autobind_reuse";
    CskNoOpenPort = "inet_csk_find_open_port", "no open port in the range";
    UdpNobody = "udp_lib_get_port", "nobody has the port";
    UdpInuse = "udp_lib_lport_inuse", "an owner conflicts";
    UdpReuseport = "udp_lib_lport_inuse", "first owner shares by SO_REUSEPORT";
    UdpShared = "udp_lib_lport_inuse", "no owner conflicts";
    UdpInuse2 = "udp_lib_lport_inuse2", "an owner conflicts (many sockets on the slot)";
    UdpShared2 = "udp_lib_lport_inuse2", "no owner conflicts (many sockets on the slot)";
    UdpAuto = "udp_lib_get_port", "automatic port";
    UdpExhausted = "udp_lib_get_port", "no automatic port left";
    UnixBindMalformed = "unix_validate_addr", "length or family";
    UnixAutobindNamed = "unix_autobind", "has a name already";
    UnixAutobind = "unix_autobind", "a name of five digits";
    UnixAutobindFull = "unix_autobind", "all names are used";
    UnixAbstractBound = "unix_bind_abstract", "has a name already";
    UnixAbstractInUse = "unix_bind_abstract", "the name is used";
    UnixPathExists = "unix_bind_bsd", "something has the path";
    UnixPathRefused = "unix_bind_bsd", "the file system refuses the path";
    UnixPathBound = "unix_bind_bsd", "has a name already";
    UnixBound = "unix_bind", "bound";
    UnixListenUnbound = "unix_listen", "has no name";
    UnixListenState = "unix_listen", "connected";
    UnixConnectPath = "unix_find_bsd", "the file system refuses the path";
    UnixConnectFile = "unix_find_bsd", "no socket is bound to the file";
    UnixConnectType = "unix_find_bsd", "the socket is of another type";
    UnixConnectName = "unix_find_abstract", "no socket of this type has the name";
    UnixConnectListens = "unix_stream_connect", "the other does not listen, or is shut down for reading";
    UnixConnectFull = "unix_stream_connect", "the listener's queue is full";
    UnixConnectConnected = "unix_stream_connect", "connected already";
    UnixConnectListener = "unix_stream_connect", "a listener cannot connect";
    UnixConnected = "unix_stream_connect", "connected";
    UnixDgramLength = "unix_dgram_connect", "address too short";
    UnixDgramPeer = "unix_may_send", "the other is connected to a third";
    UnixDgramConnected = "unix_dgram_connect", "connected";
    UnixDgramDisconnected = "unix_dgram_connect", "disconnected by AF_UNSPEC";
    VsockMalformed = "vsock_addr_cast", "length, family or flags";
    VsockBound = "__vsock_bind", "has a port already";
    VsockCid = "__vsock_bind", "not a CID of this machine";
    VsockPrivileged = "__vsock_bind_connectible", "privileged port without CAP_NET_BIND_SERVICE";
    VsockInUse = "__vsock_find_bound_socket", "the port is used";
    VsockAuto = "__vsock_bind_connectible", "automatic port";
    VsockNoPort = "__vsock_bind_connectible", "no automatic port in 24 tries";
    VsockBoundNow = "__vsock_bind_connectible", "bound";
    VsockConnectListener = "vsock_connect", "a listener cannot connect";
    VsockNoTransport = "vsock_assign_transport", "nothing carries connections to this CID";
    VsockConnectConnected = "vsock_connect", "connected already";
    VsockConnectOver = "vsock_connect", "was connected and is shut down";
    VsockConnectType = "virtio_transport_recv_pkt", "the socket there is of another type";
    VsockConnectSelf = "virtio_transport_recv_connecting", "a request comes where an answer should";
    VsockConnectFull = "virtio_transport_recv_listen", "the listener's queue is full";
    VsockRefused = "virtio_transport_reset_no_sock", "nobody listens there";
    VsockConnected = "virtio_transport_recv_connecting", "connected";
    VsockClosed = "virtio_transport_do_close", "the connection is over on both sides";
    VsockAcceptError = "vsock_accept", "the error of an earlier connect";
    VsockListenUnbound = "vsock_listen", "has no port";
    RawBindLength = "raw_bind", "length, family or state";
    RawBindNotLocal = "raw_bind", "address is not local";
    RawBound = "raw_bind", "bound";
    PingLength = "ping_check_bind_addr", "address too short";
    PingFamily = "ping_check_bind_addr", "wrong family";
    PingNotUnicast = "ping_check_bind_addr", "not unicast, or no scope";
    PingNoDevice = "ping_check_bind_addr", "no such device";
    PingNotLocal = "ping_check_bind_addr", "address is not local";
    PingBound = "ping_bind", "has an identifier already";
    PingAuto = "ping_get_port", "automatic identifier";
    PingInUse = "ping_get_port", "identifier is used";
    PingOk = "ping_bind", "bound";
    NetlinkMalformed = "netlink_bind", "length or family";
    NetlinkBound = "netlink_bind", "bound to another port id";
    NetlinkAllowed = "netlink_allowed", "to join its groups needs CAP_NET_ADMIN";
    NetlinkAudit = "audit_multicast_bind", "to join its groups needs CAP_AUDIT_READ";
    NetlinkConnector = "cn_bind", "an even group needs CAP_NET_ADMIN";
    NetlinkMroute = "rtnetlink_bind", "groups of multicast routes need CAP_NET_ADMIN";
    NetlinkInUse = "netlink_insert", "the port id is used";
    NetlinkOk = "netlink_bind", "bound";
    PacketMalformed = "packet_bind", "length or family";
    PacketNoDevice = "packet_do_bind", "no such device";
    PacketOk = "packet_do_bind", "bound";
    ListenUnsupported = "sock_no_listen", "protocol cannot listen";
    ListenState = "inet_listen", "connected or connecting";
    ListenAgain = "__inet_listen_sk", "listening already";
    ListenConflict = "inet_csk_listen_start", "the second look finds a conflict";
    ListenOk = "inet_csk_listen_start", "listening";
    OptV6onlyFamily = "do_ip_setsockopt", "IPV6_V6ONLY on an IPv4 socket";
    OptV6onlyBound = "do_ipv6_setsockopt", "IPV6_V6ONLY with a port";
    OptReuseportFamily = "sk_setsockopt", "SO_REUSEPORT outside AF_INET";
    OptDevicePerm = "sock_bindtoindex_locked", "changing the device needs CAP_NET_RAW";
    OptDeviceIndex = "sock_bindtoindex_locked", "negative device index";
    OptDeviceName = "sock_setbindtodevice", "no such device";
    OptTransparentPerm = "do_ip_setsockopt", "IP_TRANSPARENT needs a capability";
    OptPortRange = "do_ip_setsockopt", "IP_LOCAL_PORT_RANGE upside down";
    OptRepairPerm = "do_tcp_setsockopt", "TCP_REPAIR needs CAP_NET_ADMIN or a closed socket";
    OptPassFamily = "sk_may_scm_recv", "family without ancillary data";
    OptUnknown = "setsockopt", "socket has no such option";
    OptSet = "setsockopt", "set";
    ConnectLength = "inet_stream_connect", "address too short";
    ConnectFamily = "tcp_v4_connect", "wrong family";
    ConnectV6only = "tcp_v6_connect", "IPv4-mapped address on a V6ONLY socket";
    ConnectConnected = "inet_stream_connect", "connected already";
    ConnectListening = "inet_stream_connect", "a listener cannot connect";
    ConnectAlready = "__inet_stream_connect", "connecting already";
    ConnectScope = "tcp_v6_connect", "link-local address without its device";
    ConnectMany = "tcp_v4_connect", "broadcast or multicast";
    ConnectNoRoute = "ip_route_output_flow", "no route leads there";
    ConnectNoSource = "ip_route_output_flow", "not from this address";
    ConnectNoDevice = "ip_route_output_flow", "no such device";
    ConnectOneOf = "reuseport_select_sock", "one of several equal listeners";
    ConnectWaits = "tcp_connect", "SYN sent: nobody here answers";
    ConnectFull = "tcp_conn_request", "the listener's queue is full: nobody answers";
    ConnectRepair = "tcp_finish_connect", "connected at once, in TCP_REPAIR";
    ConnectSelf = "tcp_rcv_synsent_state_process", "connected to itself";
    ConnectAborted = "__inet_stream_connect", "closed as soon as it was connected";
    ConnectChallenge = "tcp_challenge_ack", "the half closed connection of the same ends is reset";
    ConnectTuple = "__inet_check_established", "the connection is there already";
    ConnectNoPort = "__inet_hash_connect", "no port left";
    ConnectPort = "__inet_hash_connect", "automatic port";
    ConnectRefused = "tcp_reset", "nobody listens there";
    ConnectOk = "inet_stream_connect", "connected";
    MptcpFallback = "mptcp_try_fallback", "the other side speaks TCP";
    MptcpConnected = "mptcp_finish_connect", "both sides speak MPTCP";
    MptcpLingers = "mptcp_start_tout_timer", "the subflow stays until the other side closes";
    MptcpBusy = "__mptcp_nmpc_sk", "neither closed nor listening";
    ConnectNotModelled = "bindgate", "the model does not know this";
    UnknownRoute = "bindgate", "the model does not know where this leads";
    UnknownServer = "bindgate", "the model does not know which of several listeners serves this";
    UnknownReturn = "bindgate", "the answer to this takes a way that the model does not know";
    UnknownFull = "bindgate", "a full queue beside TIME_WAIT of the same connection";
    UnknownCutOff = "bindgate", "an end of the connection is in TCP_REPAIR or takes packets of another device only";
    UnknownMet = "bindgate", "a SYN that meets the end of another connection";
    UnknownMapped = "bindgate", "a connection by IPv6 to a listener that has spoken IPv4";
    UnknownMptcp = "bindgate", "the model does not know how this MPTCP connection ends";
    UnknownSequence = "bindgate", "sequence numbers decide about the third connection of the same ends";
    UnknownBefore = "bindgate", "an earlier answer is unknown";
    UnknownGroup = "genl_bind", "which groups need a capability depends on the families that are loaded";
    UnknownVsock = "bindgate", "what answers by vsock outside this host";
    UnknownVsockMet = "bindgate", "kernels differ in what a connected vsock socket does with a request";
    UnknownVsockError = "bindgate", "a child is lost by the error of an earlier connect";
    UnknownPath = "bindgate", "the path leads to a socket that is bound to another one";
    UdpConnected = "__ip4_datagram_connect", "connected";
    UdpBroadcast = "__ip4_datagram_connect", "broadcast without SO_BROADCAST";
    UdpDisconnected = "__udp_disconnect", "disconnected, without a new look for conflicts";
    UdpAutobindFull = "inet_autobind", "no automatic port left";
    TcpDisconnected = "tcp_disconnect", "closed";
    TcpReset = "tcp_reset", "the peer is closed by it";
    AcceptUnsupported = "sock_no_accept", "protocol does not accept";
    AcceptState = "inet_csk_accept", "not listening";
    AcceptEmpty = "inet_csk_accept", "no child waits";
    AcceptOk = "inet_csk_accept", "a child";
    ShutdownUnsupported = "sock_no_shutdown", "protocol does not shut down";
    ShutdownNotConnected = "inet_shutdown", "not connected";
    ShutdownOk = "inet_shutdown", "shut down";
    CloseShared = "fput", "other descriptors remain";
    CloseLingers = "tcp_close", "FIN sent, the other side has not closed: keeps the port";
    ShutdownFin = "tcp_shutdown", "FIN sent";
    TcpTimeWait = "tcp_time_wait", "both sides have closed: the first keeps the port";
    TimeWaitReset = "tcp_timewait_state_process", "a reset ends TIME_WAIT";
    ConnectTimeWait = "tcp_twsk_unique", "TIME_WAIT of the same connection gives way";
    ConnectTwSyn = "tcp_timewait_state_process", "SYN takes the place of TIME_WAIT";
    ClosePutPort = "inet_put_port", "port given back";
    CloseDone = "inet_release", "closed";
    BsdNameTooLong = "getsockaddr", "length above 255";
    BsdNameShort = "getsockaddr", "length below 2";
    BsdFault = "getsockaddr", "address cannot be read";
    BsdCapabilityMode = "kern_bindat", "capability mode";
    BsdBadFd = "getsock_cap", "no such descriptor";
    BsdNotSocket = "getsock_cap", "not a socket";
    BsdNoDomain = "socreate", "family is not known";
    BsdNoType = "socreate", "no protocol of this type";
    BsdNoProtocol = "socreate", "type has no such protocol";
    BsdRawPerm = "rip_attach", "raw needs privilege";
    BsdRawProtocol = "rip_attach", "protocol number out of range";
    BsdJailSocket = "prison_check_af", "the jail has no address of the family";
    BsdSocket = "socreate", "created";
    BsdRawFamily = "rip_bind", "family is not the socket's";
    BsdRawLength = "rip_bind", "length is not that of sockaddr_in or sockaddr_in6";
    BsdRawNotLocal = "rip_bind", "address is not an interface's";
    BsdRawOk = "rip_bind", "bound";
    BsdUnixFamily = "uipc_bindat", "family is not AF_UNIX";
    BsdUnixLength = "uipc_bindat", "length";
    BsdUnixBound = "uipc_bindat", "has a path already";
    BsdUnixEmpty = "uipc_bindat", "empty path: no abstract names";
    BsdUnixExists = "uipc_bindat", "something has the path";
    BsdUnixPath = "uipc_bindat", "the file system refuses the path";
    BsdListenState = "solisten_proto_check", "dropped or connected";
    BsdListenUnbound = "uipc_listen", "has no path";
    BsdListenType = "solisten", "protocol cannot listen";
    BsdListening = "solisten_proto", "listening, without a second look";
    BsdV6onlyBound = "ip6_ctloutput", "IPV6_V6ONLY with a port";
    BsdBindAnyPerm = "ip_ctloutput", "IP_BINDANY needs privilege, to take it away as well";
    BsdOptionLevel = "ip_ctloutput", "the option is another family's";
    BsdOptionDropped = "tcp_ctloutput", "connection was dropped";
    BsdNoOption = "sosetopt", "no such option";
    BsdDropped = "tcp_usr_bind", "connection was dropped";
    BsdFamily = "in_pcbbind_setup", "family is neither AF_INET nor AF_UNSPEC with 0.0.0.0";
    BsdLength = "in_pcbbind_setup", "length is not that of sockaddr_in";
    BsdMulticast = "tcp_usr_bind", "multicast on a stream socket";
    BsdBound = "in_pcbbind", "has an address or port already";
    BsdNoAddress = "in_pcbbind_setup", "the host has no IPv4 address";
    Bsd6NoAddress = "in6_pcbbind", "the host has no IPv6 address";
    BsdNotReady = "in6_pcbbind", "address is tentative";
    BsdJailFamily = "prison_local_ip4", "the jail has no address of the family";
    BsdJailForeign = "prison_check_ip4", "address is not the jail's";
    BsdNotLocal = "in_pcbbind_setup", "address is not an interface's";
    BsdReserved = "in_pcbbind_setup", "reserved port without privilege";
    BsdOtherUser = "in_pcbbind_avail", "another user's socket overlaps";
    BsdInUse = "in_pcbbind_avail", "a socket is in the way";
    BsdAvailable = "in_pcbbind_avail", "available";
    BsdOk = "in_pcbinshash", "bound";
    Bsd6Family = "tcp6_usr_bind", "family is not AF_INET6";
    Bsd6Length = "tcp6_usr_bind", "length is not that of sockaddr_in6";
    Bsd6Scope = "sa6_embedscope", "no such interface";
    BsdLowPerm = "in_pcb_lport_dest", "the low range needs privilege";
    BsdAuto = "in_pcb_lport_dest", "automatic port";
    BsdNoPort = "in_pcb_lport_dest", "no port left";
    GetOk = "sk_getsockopt", "read";
    GetUnknown = "do_sock_getsockopt", "the socket has no such option";
    PeerOk = "__sys_getpeername", "connected";
    PeerNone = "__sys_getpeername", "not connected";
    LeftOut = "bindgate", "the address is one that the model has no room for";
    BsdNoFib = "sosetopt", "no such routing table";
    BsdOtherFib = "fib4_lookup", "the routes of another table than the first are not known";
    BsdConnectCapability = "kern_connectat", "capability mode";
    BsdConnectListener = "tcp_usr_connect", "a listener cannot connect";
    BsdConnectListener6 = "tcp6_usr_connect", "a listener cannot connect";
    BsdConnectConnected = "soconnectat", "connected already";
    BsdDisconnected = "sodisconnect", "the old connection is given up";
    BsdConnectOver = "tcp_usr_connect", "its connection is over for good";
    BsdConnectFamily = "tcp_usr_connect", "family is not the socket's";
    BsdConnectLength = "tcp_usr_connect", "length is not that of sockaddr_in or sockaddr_in6";
    BsdConnectMulticast = "tcp_usr_connect", "multicast";
    BsdConnectBroadcast = "tcp_usr_connect", "broadcast";
    BsdConnectV6only = "tcp6_usr_connect", "IPv4-mapped address on a V6ONLY socket";
    BsdConnectVflag = "tcp6_usr_connect", "the socket is bound to the other family";
    BsdConnectPortZero = "in_pcbconnect_setup", "port 0";
    BsdConnectTuple = "in_pcbconnect_setup", "the connection exists";
    BsdConnectRefused = "tcp_drop", "nobody listens there: closed for good";
    BsdConnected = "syncache_socket", "connected";
    BsdUdpConnected = "udp_connect", "connected";
    BsdRawConnected = "rip_connect", "connected";
    BsdUnixNoFile = "unp_connectat", "no such file";
    BsdUnixNobody = "unp_connectat", "no socket is bound to the file";
    BsdUnixType = "unp_connectat", "the socket is of another type";
    BsdUnixListens = "unp_connectat", "the other does not listen, or its queue is full";
    BsdUnixConnected = "unp_connect2", "connected";
    BsdAcceptState = "kern_accept4", "not listening";
    BsdAcceptAborted = "solisten_dequeue", "the listener was shut down";
    BsdAcceptEmpty = "solisten_dequeue", "no child waits";
    BsdAcceptReset = "tcp_usr_accept", "the child's connection is over";
    BsdAccepted = "solisten_dequeue", "a child";
    BsdShutdownListener = "soshutdown", "a listener: the port is kept";
    BsdShutdownUnconnected = "soshutdown", "not connected";
    BsdShutdownOver = "tcp_usr_shutdown", "its connection is over";
    BsdShutdown = "soshutdown", "shut down";
    BsdFin = "tcp_usrclosed", "FIN sent";
    BsdTimeWait = "tcp_twstart", "both sides have closed: the first keeps the port";
    BsdNoTimeWait = "tcp_twstart", "both sides have closed: nothing waits, the connection was local";
    BsdReset = "tcp_drop", "reset: the peer is closed by it";
    BsdCloseLingers = "tcp_usr_close", "the connection goes on and keeps the port";
    BsdClosePort = "in_pcbfree", "port given back";
    BsdClosed = "soclose", "closed";
    BsdNoRoute = "in_pcbladdr", "only addresses of this host and its networks have known routes";
    BsdConnectHalf = "tcp_connect", "a connection is half closed";
    BsdConnectGroup = "in_pcblookup_lbgroup", "which socket of a group is asked depends on a hash";
    BsdConnectElse = "bindgate", "the model does not know what answers";
    BsdOnePort = "in_pcb_lport_dest", "one automatic port: the kernel divides by zero and panics";
    BsdPanic = "in_pcb_lport", "a refused bind has left the socket without IPv6: the kernel panics";
    BsdNotGiven = "udp6_bind", "reads more of the address than it was given";
    NoPortOf = "bindgate", "the socket after $ has no port";
    NoRoom = "bindgate", "the model's table is full";
    NotModelled = "bindgate", "the model does not know this family";
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.function(), self.what())
    }
}

/// Checks of one call, in order; at most [`Trail::MAX`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trail {
    len: u8,
    steps: [Step; Trail::MAX],
}

impl Trail {
    /// As many as are kept.
    pub const MAX: usize = 12;

    pub(crate) const fn new() -> Trail {
        Trail {
            len: 0,
            steps: [Step::SockCreated; Trail::MAX],
        }
    }

    /// Adds a check. If there is no room it takes the last one's place: the
    /// check that decided is always there.
    pub(crate) fn push(&mut self, step: Step) {
        self.len = (self.len + 1).min(Trail::MAX as u8);
        if let Some(place) = self.steps.get_mut(usize::from(self.len) - 1) {
            *place = step;
        }
    }

    /// A trail of one check.
    #[must_use]
    pub fn one(step: Step) -> Trail {
        let mut trail = Trail::new();
        trail.push(step);
        trail
    }

    /// The checks.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The check that decided.
    #[must_use]
    pub fn last(&self) -> Option<Step> {
        self.steps().last().copied()
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.steps().iter().map(|s| s.function()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_trail_keeps_the_check_that_decided() {
        let mut trail = Trail::new();
        for _ in 0..Trail::MAX + 3 {
            trail.push(Step::SockCreated);
        }
        trail.push(Step::CskConflict);
        assert_eq!(trail.steps().len(), Trail::MAX);
        assert_eq!(trail.last(), Some(Step::CskConflict));
    }
}
