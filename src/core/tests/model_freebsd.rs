//! Facts of FreeBSD 14.3 beside those of Linux 6.18: one script each, what its
//! last call gives on either, and the FreeBSD function that says so.
//!
//! There is no FreeBSD here to ask; the answers are from its source, and those
//! marked in the notes were run from that source outside a kernel.

use bindgate_core::model::host::V6;
use bindgate_core::model::script::{Expect, Player, parse};
use bindgate_core::model::{Generation, Host, Pick, State};

const HEAD: &str = "\
host address 10.0.0.1/24 [fd00::1/64]
process alice uid 1000
process bob uid 1001
";

#[rustfmt::skip]
/// FreeBSD function, calls, Linux's answer, FreeBSD's answer.
const FACTS: &[(&str, &str, &str, &str)] = &[
    // getsockaddr: lengths, before the descriptor.
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len -1", "EINVAL", "ENAMETOOLONG"),
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len 256", "EINVAL", "ENAMETOOLONG"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80 len 128", "ok", "EINVAL"),
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len 1", "EINVAL", "EINVAL"),
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len 0", "EINVAL", "EINVAL"),
    ("getsockaddr", "s = socket tcp; close s; bind s 127.0.0.1:80 len 300", "EBADF", "ENAMETOOLONG"),
    ("getsock_cap", "s = socket tcp; close s; bind s 127.0.0.1:80", "EBADF", "EBADF"),
    // in_pcbbind_setup: family, length, address.
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80 len 17", "ok", "EINVAL"),
    ("in_pcbbind_setup", "s = socket udp; bind s 127.0.0.1:80 len 28", "ok", "EINVAL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80 len 8", "EINVAL", "EINVAL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:8000 len 16", "ok", "ok"),
    ("in_pcbbind_setup", "s = socket tcp; bind s hex:00001f900000000000000000000000 len 16", "ok", "ok"),
    ("in_pcbbind_setup", "s = socket tcp; bind s hex:00001f907f0000010000000000000000", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("in_pcbbind_setup", "s = socket tcp; bind s [::1]:80", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s [::1]:80 len 24", "ok", "EINVAL"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s [::1]:80 len 29", "ok", "EINVAL"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s hex:0000005000000000000000000000000000000000000000000000000000000000 len 28", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s 127.0.0.1:80", "EINVAL", "EAFNOSUPPORT"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.2:80", "ok", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 255.255.255.255:80", "ok", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket udp; bind s 10.0.0.255:80", "ok", "ok"),
    ("in_pcbbind_setup", "s = socket udp; bind s 10.0.0.2:80", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket udp; bind s 127.255.255.255:80", "ok", "EADDRNOTAVAIL"),
    ("tcp_usr_bind", "s = socket tcp; bind s 224.0.0.1:80", "ok", "EAFNOSUPPORT"),
    ("in_pcbbind_setup", "s = socket udp; bind s 224.0.0.1:5353", "ok", "ok"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s [ff0e::1]:80", "EINVAL", "EAFNOSUPPORT"),
    ("in6_pcbbind", "s = socket udp6; bind s [fd00::9]:80", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("in6_pcbbind", "s = socket tcp6; bind s [fe80::9]:80", "EINVAL", "EADDRNOTAVAIL"),
    ("sa6_embedscope", "s = socket tcp6; bind s [fe80::9%77]:80", "ENODEV", "ENXIO"),
    ("in6_pcbbind", "s = socket tcp6; set s IPV6_V6ONLY on; bind s [::ffff:127.0.0.1]:80", "EINVAL", "EADDRNOTAVAIL"),
    ("in6_pcbbind", "s = socket tcp6; bind s [::ffff:127.0.0.1]:80", "ok", "EADDRNOTAVAIL"),
    ("in_pcbbind", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::ffff:127.0.0.1]:80", "ok", "ok"),
    // Order of the checks.
    ("in_pcbbind", "s = socket tcp; bind s 127.0.0.1:80; bind s 10.0.0.2:81", "EADDRNOTAVAIL", "EINVAL"),
    ("in_pcbbind", "alice: s = socket tcp; alice: bind s 127.0.0.1:8000; alice: bind s 127.0.0.1:80", "EACCES", "EINVAL"),
    ("in_pcbbind", "s = socket tcp; bind s 127.0.0.1:80; bind s 127.0.0.1:81", "EINVAL", "EINVAL"),
    ("in_pcbbind_setup", "alice: s = socket tcp; alice: bind s 127.0.0.1:80", "EACCES", "EACCES"),
    ("in_pcbbind_setup", "alice: s = socket tcp; alice: bind s 10.0.0.2:80", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80", "ok", "ok"),
    // in_pcbbind_avail: the reuse matrix.
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 127.0.0.1:80; bind t 10.0.0.1:80", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 0.0.0.0:80; bind t 10.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 10.0.0.1:80; bind t 0.0.0.0:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEADDR on; bind s 0.0.0.0:80; listen s; bind t 10.0.0.1:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEADDR on; bind s 10.0.0.1:80; bind t 0.0.0.0:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEPORT on; bind s 0.0.0.0:80; bind t 10.0.0.1:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set t SO_REUSEPORT on; bind s 0.0.0.0:80; bind t 10.0.0.1:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEADDR on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; bind s 0.0.0.0:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEADDR on; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 224.0.0.1:53; bind t 224.0.0.1:53", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set t SO_REUSEADDR on; bind s 224.0.0.1:53; bind t 224.0.0.1:53", "EADDRINUSE", "EADDRINUSE"),
    // Other users.
    ("in_pcbbind_avail", "alice: s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; alice: bind s 127.0.0.1:8000; bind t 127.0.0.1:8000", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "alice: s = socket tcp; bob: t = socket tcp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 0.0.0.0:8000; bob: bind t 127.0.0.1:8000", "ok", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; bob: t = socket tcp; set t SO_REUSEADDR on; bind s 0.0.0.0:8000; bob: bind t 127.0.0.1:8000", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "alice: s = socket udp; bob: t = socket udp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 224.0.0.1:8000; bob: bind t 224.0.0.1:8000", "ok", "ok"),
    ("in_pcbbind_avail", "alice: s = socket udp; bob: t = socket udp; bind s 127.0.0.1:8000; bob: bind t 10.0.0.1:8000", "ok", "ok"),
    // Dual stack.
    ("socreate", "s = socket tcp; t = socket tcp6; bind s 0.0.0.0:80; bind t [::]:80", "EADDRINUSE", "ok"),
    ("in6_pcbbind", "s = socket tcp; t = socket tcp6; set t IPV6_V6ONLY off; bind s 0.0.0.0:80; bind t [::]:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp6; set t IPV6_V6ONLY off; bind t [::]:80; bind s 0.0.0.0:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp6; bind t [::]:80; bind s 0.0.0.0:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp6; t = socket tcp6; set s IPV6_V6ONLY off; set t IPV6_V6ONLY off; bind s [::]:80; bind t [::ffff:10.0.0.1]:80", "EADDRINUSE", "EADDRINUSE"),
    ("in6_pcbbind", "s = socket tcp6; t = socket tcp6; bind s [::]:80; bind t [::1]:80", "EADDRINUSE", "EADDRINUSE"),
    ("ip6_ctloutput", "s = socket tcp6; bind s [::]:80; set s IPV6_V6ONLY off", "EINVAL", "EINVAL"),
    // Listening.
    ("solisten", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80; set s SO_REUSEPORT off; set t SO_REUSEPORT off; listen s; listen t", "EADDRINUSE", "ok"),
    ("solisten", "s = socket udp; bind s 127.0.0.1:80; listen s", "EOPNOTSUPP", "EOPNOTSUPP"),
    ("solisten", "s = socket tcp; listen s", "ok", "ok"),
    ("uipc_listen", "s = socket unix; listen s", "EINVAL", "EDESTADDRREQ"),
    ("uipc_listen", "s = socket unix-dgram; listen s", "EOPNOTSUPP", "EOPNOTSUPP"),
    // Automatic ports.
    ("in_pcb_lport_dest", "host automatic-ports 40000-40001; s = socket tcp; u = socket tcp; t = socket tcp; bind s 0.0.0.0:40000; bind u 0.0.0.0:40001; bind t 0.0.0.0:0", "EADDRINUSE", "EADDRNOTAVAIL"),
    ("in_pcb_lport_dest", "host automatic-ports 40000-40001; s = socket tcp; u = socket tcp; t = socket tcp; set t SO_REUSEADDR on; bind s 0.0.0.0:40000; bind u 0.0.0.0:40001; bind t 10.0.0.1:0", "EADDRINUSE", "ok"),
    ("in_pcb_lport_dest", "host automatic-ports 40000-40001; s = socket tcp; u = socket tcp; t = socket tcp; bind s 127.0.0.1:40000; bind u 127.0.0.1:40001; bind t 10.0.0.1:0", "ok", "ok"),
    ("in_pcb_lport_dest", "alice: s = socket tcp; alice: set s IP_PORTRANGE low; alice: bind s 127.0.0.1:0", "ok", "EPERM"),
    // Options.
    ("sosetopt", "s = socket tcp; set s SO_REUSEPORT_LB on", "ENOPROTOOPT", "ok"),
    ("ip_ctloutput", "alice: s = socket tcp; alice: set s IP_BINDANY on", "ENOPROTOOPT", "EPERM"),
    ("in_pcbbind_setup", "s = socket tcp; set s IP_BINDANY on; bind s 10.0.0.2:80", "EADDRNOTAVAIL", "ok"),
    ("sosetopt", "s = socket tcp; set s IP_FREEBIND on", "ok", "ENOPROTOOPT"),
    // socket().
    ("socreate", "s = socket 2 4 0", "ESOCKTNOSUPPORT", "EPROTOTYPE"),
    ("socreate", "s = socket 1 1 99", "EPROTONOSUPPORT", "ok"),
    ("socreate", "s = socket 40 1 0", "ok", "EAFNOSUPPORT"),
    ("socreate", "s = socket 2 1 17", "EPROTONOSUPPORT", "EPROTONOSUPPORT"),
    ("rip_attach", "alice: s = socket 2 3 6", "EPERM", "EPERM"),
    ("socreate", "s = socket 2 2 1", "EACCES", "EPROTONOSUPPORT"),
    // UNIX.
    ("uipc_bindat", "s = socket unix; bind s 127.0.0.1:80", "EINVAL", "EAFNOSUPPORT"),
    ("uipc_bindat", "s = socket unix; bind s unix:auto", "ok", "EINVAL"),
    ("uipc_bindat", "s = socket unix; bind s unix:@name", "ok", "ENOENT"),
    ("uipc_bindat", "s = socket unix; t = socket unix; bind s unix:/a; bind t unix:/b; bind t unix:/a", "EADDRINUSE", "EINVAL"),
    ("uipc_bindat", "s = socket unix; t = socket unix; bind s unix:/a; bind t unix:/a", "EADDRINUSE", "EADDRINUSE"),
    ("uipc_bindat", "s = socket unix; bind s unix:/a len 107", "ok", "EINVAL"),
    ("rip_bind", "s = socket raw; bind s 127.0.0.1:0 len 17", "ok", "EINVAL"),
    ("rip_bind", "s = socket raw; bind s 10.0.0.2:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
];

/// What 9.1 and 14.3 answer to the last call, with the name of the fact in
/// docs/model.md and who says so: `kernel` where the answer was seen on
/// 14.0-STABLE or on the original functions of 9.1, `source` otherwise; one for
/// each generation where they differ in that.
#[rustfmt::skip]
const KERNELS: &[(&str, &str, &str, &str, &str)] = &[
    // F1: nothing looks for mapped addresses on sockets with IPV6_V6ONLY.
    ("mapped-v6only", "kernel", "s = socket tcp6; bind s [::1]:8000; bind s [::ffff:127.0.0.1]:8001", "EINVAL", "EINVAL"),
    ("mapped-v6only", "kernel", "s = socket udp6; bind s [::1]:8000; bind s [::ffff:127.0.0.1]:8001", "EINVAL", "EINVAL"),
    ("mapped-v6only", "kernel", "s = socket tcp6; set s IPV6_BINDANY on; bind s [::ffff:127.0.0.1]:8001", "[::ffff:127.0.0.1]:8001", "[::ffff:127.0.0.1]:8001"),
    ("mapped-v6only", "source", "s = socket tcp6; set s IPV6_BINDANY on; bind s [::ffff:127.0.0.1]:8001; t = socket tcp; bind t 127.0.0.1:8001", "127.0.0.1:8001", "127.0.0.1:8001"),
    // F2: the option's level and the socket's family.
    ("option-levels", "kernel", "s = socket tcp; set s IPV6_V6ONLY on", "EINVAL", "EINVAL"),
    ("option-levels", "kernel", "s = socket udp; set s IPV6_V6ONLY on", "EINVAL", "EINVAL"),
    ("option-levels", "kernel", "s = socket raw; set s IPV6_V6ONLY on", "EINVAL", "EINVAL"),
    ("option-levels", "kernel", "s = socket unix; set s IPV6_V6ONLY on", "EINVAL", "EINVAL"),
    ("option-levels", "kernel", "s = socket unix; set s IP_BINDANY on", "ENOPROTOOPT", "ENOPROTOOPT"),
    ("option-levels", "kernel", "s = socket tcp6; set s IP_BINDANY on", "EINVAL", "EINVAL"),
    ("option-levels", "kernel", "s = socket tcp6; set s IP_PORTRANGE high", "EINVAL", "EINVAL"),
    ("option-levels", "source", "s = socket tcp; set s IPV6_BINDANY on", "EINVAL", "EINVAL"),
    ("option-levels", "source", "s = socket tcp6; set s IPV6_PORTRANGE high; bind s [::1]:0", "[::1]:49160", "[::1]:49160"),
    ("option-levels", "source", "s = socket tcp6; set s IPV6_BINDANY on; bind s [fd00::9]:80", "[fd00::9]:80", "[fd00::9]:80"),
    // F3
    ("bindany-off", "kernel", "alice: s = socket tcp; alice: set s IP_BINDANY off", "EPERM", "EPERM"),
    ("bindany-off", "source", "alice: s = socket tcp6; alice: set s IPV6_BINDANY off", "EPERM", "EPERM"),
    // F4: ifa_ifwithaddr compares the scope id of a wide address.
    ("wide-scope", "kernel", "s = socket udp6; bind s [fd00::1%2]:8000", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("wide-scope", "kernel", "s = socket udp6; bind s [::1%1]:8000", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("wide-scope", "kernel", "s = socket udp6; bind s [fd00::1%77]:8000", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("wide-scope", "kernel", "s = socket udp6; bind s [::%2]:8000", "[::]:8000", "[::]:8000"),
    ("wide-scope", "kernel", "s = socket udp6; bind s [ff0e::1%77]:8000", "[ff0e::1]:8000", "[ff0e::1]:8000"),
    ("wide-scope", "source", "s = socket udp6; set s IPV6_BINDANY on; bind s [fd00::1%2]:8000", "[fd00::1]:8000", "[fd00::1]:8000"),
    // The same comparison sees sin6_flowinfo.
    ("wide-scope", "source", "s = socket udp6; bind s hex:0a001f4001000000fd00000000000000000000000000000100000000", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    // F5: the name has the zone of a link-local address.
    ("zone-in-name", "kernel", "s = socket udp6; bind s [ff02::1%2]:8000", "[ff02::1%2]:8000", "[ff02::1%2]:8000"),
    ("zone-in-name", "kernel", "s = socket udp6; bind s [fe80::1%2]:8000", "[fe80::1%2]:8000", "[fe80::1%2]:8000"),
    ("zone-in-name", "source", "s = socket udp6; bind s [fe80::1%1]:8000", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("zone-in-name", "source", "s = socket udp6; t = socket udp6; bind s [ff02::1%1]:8000; bind t [ff02::1%2]:8000", "[ff02::1%2]:8000", "[ff02::1%2]:8000"),
    ("zone-in-name", "source", "s = socket udp6; t = socket udp6; bind s [ff02::1%2]:8000; bind t [ff02::1%2]:8000", "EADDRINUSE", "EADDRINUSE"),
    // F6: _in_pcbinshash_wild.
    ("mapped-wildcards-last", "kernel", "s = socket tcp6; t = socket tcp6; u = socket tcp6; set s IPV6_V6ONLY off; set t IPV6_V6ONLY off; set u IPV6_V6ONLY off; set t SO_REUSEPORT on; set u SO_REUSEPORT on; bind s [::ffff:0.0.0.0]:8000; bind t [::ffff:0.0.0.0]:8000; bind u [::]:8000", "[::]:8000", "EADDRINUSE"),
    ("mapped-wildcards-last", "kernel", "s = socket tcp6; t = socket tcp6; u = socket tcp6; set s IPV6_V6ONLY off; set t IPV6_V6ONLY off; set u IPV6_V6ONLY off; set s SO_REUSEPORT on; set u SO_REUSEPORT on; bind s [::ffff:0.0.0.0]:8000; bind t [::ffff:0.0.0.0]:8000; bind u [::]:8000", "EADDRINUSE", "[::]:8000"),
    ("mapped-wildcards-last", "kernel", "s = socket udp6; t = socket udp6; u = socket udp6; set s IPV6_V6ONLY off; set t IPV6_V6ONLY off; set u IPV6_V6ONLY off; set t SO_REUSEPORT on; set u SO_REUSEPORT on; bind s [::ffff:0.0.0.0]:8000; bind t [::ffff:0.0.0.0]:8000; bind u [::]:8000", "[::]:8000", "EADDRINUSE"),
    // F8: one automatic port; the first is never drawn.
    ("one-automatic-port", "kernel", "host automatic-ports 40000-40000; s = socket tcp; bind s 0.0.0.0:0", "0.0.0.0:40000", "unknown"),
    ("one-automatic-port", "source", "host automatic-ports 40000-40000; s = socket tcp; listen s", "0.0.0.0:40000", "unknown"),
    ("first-port-last", "kernel", "host automatic-ports 40000-40001; s = socket tcp; bind s 0.0.0.0:0", "0.0.0.0:40001", "0.0.0.0:40001"),
    ("first-port-last", "kernel", "host automatic-ports 40000-40001; s = socket tcp; bind s 0.0.0.0:0; t = socket tcp; bind t 0.0.0.0:0", "0.0.0.0:40000", "0.0.0.0:40000"),
    ("first-port-last", "kernel", "host automatic-ports 40000-40001; s = socket tcp; bind s 0.0.0.0:0; t = socket tcp; bind t 0.0.0.0:0; u = socket tcp; bind u 0.0.0.0:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    // G1: 9.1 does not look at the family, but looks for an address of AF_INET.
    ("family", "kernel", "s = socket tcp; bind s hex:00001f907f0000010000000000000000", "EADDRNOTAVAIL", "EAFNOSUPPORT"),
    ("family", "kernel", "s = socket tcp; bind s hex:00001f90000000000000000000000000", "0.0.0.0:8080", "0.0.0.0:8080"),
    ("family", "kernel", "s = socket tcp; bind s hex:00001f90e00000010000000000000000", "224.0.0.1:8080", "EAFNOSUPPORT"),
    ("family", "kernel", "s = socket tcp; bind s 224.0.0.1:8080", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    // G2: 9.1's owner has INP_REUSEPORT by SO_REUSEADDR only if that came later.
    ("multicast-reuseaddr", "kernel", "s = socket udp; t = socket udp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 224.0.0.1:5353; bind t 224.0.0.1:5353", "EADDRINUSE", "224.0.0.1:5353"),
    ("multicast-reuseaddr", "kernel", "s = socket udp6; t = socket udp6; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s [ff0e::1]:5353; bind t [ff0e::1]:5353", "EADDRINUSE", "[ff0e::1]:5353"),
    ("multicast-reuseaddr", "kernel", "s = socket udp; t = socket udp; set t SO_REUSEADDR on; bind s 224.0.0.1:5353; set s SO_REUSEADDR on; bind t 224.0.0.1:5353", "224.0.0.1:5353", "224.0.0.1:5353"),
    ("multicast-reuseaddr", "source", "s = socket udp; t = socket udp; set s SO_REUSEPORT on; set t SO_REUSEADDR on; bind s 224.0.0.1:5353; set s SO_REUSEADDR on; set s SO_REUSEADDR off; bind t 224.0.0.1:5353", "EADDRINUSE", "224.0.0.1:5353"),
    // G3: the length before the family.
    ("inet6-order", "kernel", "s = socket tcp6; bind s 127.0.0.1:8000", "EINVAL", "EAFNOSUPPORT"),
    ("inet6-order", "kernel", "s = socket tcp6; bind s [::1]:8000; bind s hex:02001f40000000000000000000000000000000000000000100000000", "EINVAL", "EAFNOSUPPORT"),
    ("inet6-order", "source", "s = socket tcp6; bind s hex:02001f40000000000000000000000000000000000000000100000000", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("inet6-order", "source", "s = socket tcp; bind s 127.0.0.1:8000; bind s [::1]:80", "EINVAL", "EAFNOSUPPORT"),
    ("inet6-order", "source", "s = socket udp; bind s 127.0.0.1:8000 len 17", "EINVAL", "EINVAL"),
    // G4
    ("udp6-mapped-length", "kernel", "s = socket udp6; set s IPV6_V6ONLY off; bind s [::ffff:127.0.0.1]:8000 len 24", "[::ffff:127.0.0.1]:8000", "EINVAL"),
    ("udp6-mapped-length", "source", "s = socket udp6; set s IPV6_V6ONLY off; bind s [::ffff:127.0.0.1]:8000 len 20", "unknown", "EINVAL"),
    ("udp6-mapped-length", "source", "s = socket udp6; bind s [::ffff:127.0.0.1]:8000 len 20", "EINVAL", "EINVAL"),
    ("udp6-mapped-length", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::ffff:224.0.0.1]:8000", "[::ffff:224.0.0.1]:8000", "EAFNOSUPPORT"),
    // G5: inp_vflag of 9.1 after a bind that failed.
    ("failed-bind-vflag", "kernel", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::]:8000; bind s [::1]:8001; t = socket tcp; bind t 0.0.0.0:8000", "0.0.0.0:8000", "EADDRINUSE"),
    ("failed-bind-vflag", "kernel", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::ffff:10.0.0.9]:8000; set s SO_REUSEADDR on; t = dup s; t = dup s", "[::ffff:0.0.0.0]:0", "[::]:0"),
    ("failed-bind-vflag", "kernel", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::ffff:10.0.0.9]:8000; listen s", "unknown", "[::]:10008"),
    ("failed-bind-vflag", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::ffff:10.0.0.9]:8000; bind s [::]:8000; t = socket tcp; bind t 0.0.0.0:8000", "EADDRINUSE", "EADDRINUSE"),
    ("failed-bind-vflag", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::1]:8000; bind s [::]:8001; t = socket tcp; bind t 0.0.0.0:8000", "EADDRINUSE", "0.0.0.0:8000"),
    ("failed-bind-vflag", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::]:8000; bind s [::ffff:10.0.0.1]:8001; t = socket tcp6; bind t [::]:8000", "[::]:8000", "EADDRINUSE"),
    // G6: in6_pcbbind's second look knows no exemption.
    ("users-dual-wildcard", "kernel", "alice: s = socket tcp; bob: t = socket tcp6; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bob: set t IPV6_V6ONLY off; alice: bind s 0.0.0.0:8000; bob: bind t [::]:8000", "EADDRINUSE", "EADDRINUSE"),
    ("users-dual-wildcard", "kernel", "alice: s = socket tcp6; bob: t = socket tcp6; set s SO_REUSEPORT on; set t SO_REUSEPORT on; set s IPV6_V6ONLY off; set t IPV6_V6ONLY off; alice: bind s [::]:8000; bob: bind t [::]:8000", "EADDRINUSE", "EADDRINUSE"),
    ("users-dual-wildcard", "kernel", "alice: s = socket tcp6; bob: t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; set s IPV6_V6ONLY off; alice: bind s [::]:8000; bob: bind t 0.0.0.0:8000", "0.0.0.0:8000", "EADDRINUSE"),
    // G7
    ("automatic-port-dual", "kernel", "host automatic-ports 40000-40001; s = socket tcp; t = socket tcp; u = socket tcp6; set u IPV6_V6ONLY off; bind s 0.0.0.0:40000; bind t 0.0.0.0:40001; bind u [::]:0", "[::]:40001", "EADDRNOTAVAIL"),
    ("automatic-port-dual", "kernel", "host automatic-ports 40000-40001; s = socket tcp; t = socket tcp; u = socket tcp6; bind s 0.0.0.0:40000; bind t 0.0.0.0:40001; bind u [::]:0", "[::]:40001", "[::]:40001"),
    // Raw sockets.
    ("raw", "source", "r = socket raw; bind r hex:00000000000000000000000000000000", "EADDRNOTAVAIL", "EAFNOSUPPORT"),
    ("raw", "source", "r = socket raw; bind r 224.0.0.1:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("raw", "source", "r = socket raw; bind r 10.0.0.1:5", "10.0.0.1:0", "10.0.0.1:0"),
    ("raw", "source", "alice: r = socket 2 3 300", "EPERM", "EPERM"),
    ("raw", "source", "r = socket 2 3 300", "EPROTONOSUPPORT", "EPROTONOSUPPORT"),
    ("raw6", "source", "r = socket raw6; bind r [fd00::9]:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("raw6", "source", "r = socket raw6; bind r [fd00::1]:5; bind r [::]:5; bind r [fd00::1]:0", "[fd00::1]:0", "[fd00::1]:0"),
    ("raw6", "source", "r = socket raw6; set r IPV6_BINDANY on; bind r [fd00::9]:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("raw6", "source", "r = socket raw6; bind r [ff0e::1]:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("raw6", "source", "r = socket raw6; bind r [fe80::1%77]:0", "ENXIO", "ENXIO"),
    ("raw6", "source", "r = socket raw6; bind r [::1]:0 len 24", "EINVAL", "EINVAL"),
    ("raw6", "source", "r = socket raw6; bind r 127.0.0.1:0", "EINVAL", "EAFNOSUPPORT"),
    // Connections.
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 10.0.0.1:8000", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 0.0.0.0:8000", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; bind c 10.0.0.1:9000; connect c 127.0.0.1:8000", "10.0.0.1:9000", "10.0.0.1:9000"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; bind c 0.0.0.0:9000; connect c 127.0.0.1:8000", "127.0.0.1:9000", "127.0.0.1:9000"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; connect c 127.0.0.1:8001", "EISCONN", "EISCONN"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; connect c hex:00000000000000000000000000000000", "EISCONN", "EISCONN"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:0; d = dup c", "0.0.0.0:10008", "0.0.0.0:0"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 224.0.0.1:8000", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 255.255.255.255:8000", "unknown", "EACCES"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c hex:02001f407f000001000000000000000000", "EINVAL", "EINVAL"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c hex:0a001f407f0000010000000000000000", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c hex:02", "EINVAL", "EINVAL"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect s 127.0.0.1:8000", "EOPNOTSUPP", "EOPNOTSUPP"),
    ("connect", "source", "s = socket tcp6; listen s; connect s [::1]:8000", "EOPNOTSUPP", "EINVAL"),
    ("connect", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; d = socket tcp; set c SO_REUSEPORT on; set d SO_REUSEPORT on; bind c 127.0.0.1:9000; bind d 127.0.0.1:9000; connect c 127.0.0.1:8000; connect d 127.0.0.1:8000", "EADDRINUSE", "EADDRINUSE"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000", "ECONNREFUSED", "ECONNREFUSED"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000; connect c 127.0.0.1:8000", "EINVAL", "ECONNREFUSED"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000; bind c 127.0.0.1:9001", "EINVAL", "EINVAL"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000; listen c", "EINVAL", "EINVAL"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000; d = dup c", "127.0.0.1:9000", "127.0.0.1:9000"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000; t = socket tcp; bind t 127.0.0.1:9000", "127.0.0.1:9000", "127.0.0.1:9000"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000; set c IP_PORTRANGE high", "127.0.0.1:9000", "ECONNRESET"),
    ("connect-refused", "source", "c = socket tcp; bind c 127.0.0.1:9000; connect c 127.0.0.1:8000; shutdown c both", "ECONNRESET", "ENOTCONN"),
    ("connect-elsewhere", "source", "c = socket tcp; connect c 10.0.0.9:80", "unknown", "unknown"),
    ("connect-elsewhere", "source", "c = socket tcp; connect c 10.0.0.9:80; bind c 10.0.0.1:9000", "unknown", "unknown"),
    ("connect-elsewhere", "source", "u = socket udp; connect u 10.0.0.9:80", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("connect-elsewhere", "source", "u = socket udp; connect u 192.0.2.1:80", "unknown", "unknown"),
    ("connect-elsewhere", "source", "u = socket udp; connect u 127.0.0.2:80", "unknown", "unknown"),
    ("connect-elsewhere", "source", "u = socket udp; connect u 255.255.255.255:80", "unknown", "unknown"),
    ("connect-elsewhere", "source", "c = socket tcp; bind c 127.0.0.1:8000; connect c 127.0.0.1:8000", "unknown", "unknown"),
    ("connect-source", "source", "host address 10.0.0.2/24 10.1.0.1/16 10.1.2.1/24; u = socket udp; connect u 10.0.0.2:80", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("connect-source", "source", "host address 10.0.0.2/32; u = socket udp; connect u 10.0.0.2:80", "10.0.0.2:10008", "10.0.0.2:10008"),
    ("connect-source", "source", "host address 10.1.0.1/16 10.1.2.1/24; u = socket udp; connect u 10.1.2.9:80", "10.1.2.1:10008", "10.1.2.1:10008"),
    ("udp-connect", "source", "u = socket udp; connect u 127.0.0.1:53", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("udp-connect", "source", "u = socket udp; connect u 127.0.0.1:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("udp-connect", "source", "u = socket udp; connect u hex:020000357f000001000000000000000000", "EINVAL", "EINVAL"),
    ("udp-connect", "source", "u = socket udp; connect u hex:0a0000357f000001000000000000000000", "EINVAL", "EAFNOSUPPORT"),
    ("udp-connect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u 10.0.0.1:53", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("udp-connect", "source", "u = socket udp; connect u 127.0.0.1:53; t = socket udp; bind t 127.0.0.1:10008", "EADDRINUSE", "EADDRINUSE"),
    ("udp-connect", "source", "u = socket udp; connect u 127.0.0.1:53; t = socket udp; set t SO_REUSEADDR on; bind t 127.0.0.1:10008", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("udp-connect", "source", "u = socket udp; connect u 127.0.0.1:53; t = socket udp; bind t 10.0.0.1:10008", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("udp-connect", "source", "alice: u = socket udp; alice: connect u 127.0.0.1:53; bob: t = socket udp; set t SO_REUSEADDR on; bob: bind t 127.0.0.1:10008", "EADDRINUSE", "EADDRINUSE"),
    ("udp-connect", "source", "u = socket udp; connect u 127.0.0.1:53; listen u", "EOPNOTSUPP", "EOPNOTSUPP"),
    ("udp-disconnect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u hex:00000000000000000000000000000000", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("udp-disconnect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u hex:00000000000000000000000000000000; d = dup u", "0.0.0.0:10008", "0.0.0.0:10008"),
    ("udp-disconnect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u hex:00000000000000000000000000000000; t = socket udp; bind t 0.0.0.0:10008", "EADDRINUSE", "0.0.0.0:10008"),
    ("udp-disconnect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u hex:00000000000000000000000000000000; bind u 127.0.0.1:9000", "EINVAL", "EINVAL"),
    ("udp-disconnect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u hex:00000000000000000000000000000000; connect u 10.0.0.1:53", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("udp-disconnect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u hex:00000000000000000000000000000000; connect u 10.0.0.1:53; t = socket udp; bind t 0.0.0.0:10008", "EADDRINUSE", "EADDRINUSE"),
    ("udp-disconnect", "source", "u = socket udp; connect u 127.0.0.1:53; connect u hex:00000000000000000000000000000000; shutdown u both", "0.0.0.0:10008", "ENOTCONN"),
    ("udp-disconnect", "source", "u = socket udp6; set u IPV6_V6ONLY off; connect u [::1]:53; connect u [::ffff:127.0.0.1]:53", "[::ffff:127.0.0.1]:10008", "EAFNOSUPPORT"),
    ("udp-disconnect", "source", "u = socket udp6; set u IPV6_V6ONLY off; connect u [::ffff:127.0.0.1]:53; connect u [::1]:53", "[::1]:10008", "EAFNOSUPPORT"),
    ("bind-beside-connection", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; t = socket tcp; bind t 127.0.0.1:10008", "EADDRINUSE", "EADDRINUSE"),
    ("bind-beside-connection", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; t = socket tcp; bind t 0.0.0.0:10008", "EADDRINUSE", "EADDRINUSE"),
    ("bind-beside-connection", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; t = socket tcp; bind t 10.0.0.1:10008", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("bind-beside-connection", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; t = socket tcp; set t SO_REUSEADDR on; bind t 127.0.0.1:10008", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("bind-beside-connection", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; alice: c = socket tcp; alice: connect c 127.0.0.1:8000; bob: t = socket tcp; set t SO_REUSEADDR on; bob: bind t 127.0.0.1:10008", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("bind-beside-connection", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close s; t = socket tcp; bind t 0.0.0.0:8000", "EADDRINUSE", "EADDRINUSE"),
    ("bind-beside-connection", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close s; t = socket tcp; set t SO_REUSEADDR on; bind t 0.0.0.0:8000", "0.0.0.0:8000", "0.0.0.0:8000"),
    ("accept", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; d = dup a", "127.0.0.1:8000", "127.0.0.1:8000"),
    ("accept", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; b = accept s", "EAGAIN", "EAGAIN"),
    ("accept", "source", "s = socket tcp; a = accept s", "EINVAL", "EINVAL"),
    ("accept", "source", "u = socket udp; a = accept u", "EINVAL", "EINVAL"),
    ("accept", "source", "x = socket unix-dgram; a = accept x", "EINVAL", "EINVAL"),
    ("accept", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; set c SO_LINGER zero; close c; a = accept s", "ECONNABORTED", "ECONNABORTED"),
    ("accept", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; close s; t = socket tcp; bind t 0.0.0.0:8000", "0.0.0.0:8000", "0.0.0.0:8000"),
    ("accept", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; close s; connect c 127.0.0.1:8000", "EINVAL", "ECONNREFUSED"),
    ("accept", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; close s; t = socket tcp; bind t 127.0.0.1:10008", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close c; t = socket tcp; bind t 127.0.0.1:10008", "EADDRINUSE", "EADDRINUSE"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close c; close a; t = socket tcp; bind t 127.0.0.1:10008", "EADDRINUSE", "127.0.0.1:10008"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close c; close a; t = socket tcp; set t SO_REUSEADDR on; bind t 127.0.0.1:10008", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close a; close c; close s; t = socket tcp; bind t 127.0.0.1:8000", "EADDRINUSE", "127.0.0.1:8000"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close a; close c; t = socket tcp; bind t 127.0.0.1:10008", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; set c SO_LINGER zero; close c; t = socket tcp; bind t 127.0.0.1:10008", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; set c SO_LINGER zero; close c; connect a 127.0.0.1:8000", "EINVAL", "ECONNREFUSED"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c write; close a; d = dup c", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c write; close a; connect c 127.0.0.1:8000", "EINVAL", "ECONNREFUSED"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c write; close a; close c; t = socket tcp; bind t 127.0.0.1:10008", "EADDRINUSE", "127.0.0.1:10008"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c write; shutdown c write; shutdown c write", "127.0.0.1:10008", "ENOTCONN"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c both; shutdown c read", "127.0.0.1:10008", "ENOTCONN"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c both; connect c 127.0.0.1:8000", "unknown", "EISCONN"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close c; shutdown a write; connect a 127.0.0.1:9", "EINVAL", "ECONNREFUSED"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close c; shutdown a write; listen a", "EINVAL", "EINVAL"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; listen c", "EINVAL", "EINVAL"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; d = dup c; close c; t = socket tcp; connect d 127.0.0.1:1", "EISCONN", "EISCONN"),
    ("close", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; close c; connect c 127.0.0.1:1; c = socket tcp; set c SO_REUSEADDR on; bind c 127.0.0.1:10008; connect c 127.0.0.1:8000", "EADDRINUSE", "EADDRINUSE"),
    ("shutdown", "source", "s = socket tcp; bind s 127.0.0.1:8080; listen s; shutdown s read", "127.0.0.1:8080", "ENOTCONN"),
    ("shutdown", "source", "s = socket tcp; bind s 127.0.0.1:8080; listen s; shutdown s write; t = socket tcp; bind t 127.0.0.1:8080", "127.0.0.1:8080", "EADDRINUSE"),
    ("shutdown", "source", "s = socket tcp; bind s 127.0.0.1:8080; listen s; shutdown s read; t = socket tcp; bind t 127.0.0.1:8080", "EADDRINUSE", "EADDRINUSE"),
    ("shutdown", "source", "s = socket tcp; listen s; shutdown s read; a = accept s", "EAGAIN", "ECONNABORTED"),
    ("shutdown", "source", "s = socket tcp; listen s; shutdown s read; a = accept s; a = accept s", "EAGAIN", "EAGAIN"),
    ("shutdown", "source", "s = socket tcp; listen s; shutdown s write; a = accept s", "EAGAIN", "EAGAIN"),
    ("shutdown", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c write; connect c 127.0.0.1:8000", "EISCONN", "EISCONN"),
    ("shutdown", "source", "s = socket tcp; shutdown s write; bind s 127.0.0.1:8080", "EINVAL", "127.0.0.1:8080"),
    ("shutdown", "source", "s = socket udp; bind s 127.0.0.1:8080; shutdown s both", "127.0.0.1:8080", "ENOTCONN"),
    ("shutdown", "source", "s = socket unix; shutdown s both", "unix:auto", "ENOTCONN"),
    ("shutdown", "source", "s = socket tcp; bind s 0.0.0.0:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s; shutdown c read; shutdown a write; d = dup c", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [::1]:8000", "[::1]:10008", "[::1]:10008"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [::]:8000", "[::1]:10008", "[::1]:10008"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [fd00::1]:8000", "[fd00::1]:10008", "[fd00::1]:10008"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [fd00::9]:8000", "unknown", "unknown"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; bind c [::1]:9000; connect c [fd00::1]:8000", "unknown", "unknown"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [::1]:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [ff0e::1]:8000", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [fe80::1%77]:8000", "ENXIO", "ENXIO"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [::ffff:127.0.0.1]:8000", "EINVAL", "EINVAL"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c 127.0.0.1:8000", "EINVAL", "EAFNOSUPPORT"),
    ("connect6", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::]:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("connect6", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::]:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000; a = accept s", "[::ffff:127.0.0.1]:8000", "[::ffff:127.0.0.1]:8000"),
    ("connect6", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::]:8000; listen s; c = socket tcp6; set c IPV6_V6ONLY off; connect c [::ffff:127.0.0.1]:8000", "[::ffff:127.0.0.1]:10008", "[::ffff:127.0.0.1]:10008"),
    ("connect6", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::]:8000; listen s; c = socket tcp6; set c IPV6_V6ONLY off; connect c [::ffff:255.255.255.255]:8000", "unknown", "EACCES"),
    ("connect6", "source", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::]:8000; listen s; c = socket tcp6; set c IPV6_V6ONLY off; connect c [::ffff:224.0.0.1]:8000", "unknown", "EAFNOSUPPORT"),
    ("connect6", "source", "c = socket tcp6; set c IPV6_V6ONLY off; bind c [::]:9000; connect c [::ffff:127.0.0.1]:0; d = dup c", "[::ffff:0.0.0.0]:9000", "[::ffff:0.0.0.0]:9000"),
    ("connect6", "source", "c = socket tcp6; set c IPV6_V6ONLY off; bind c [::]:9000; connect c [::ffff:127.0.0.1]:0; t = socket tcp6; bind t [::]:9000", "[::]:9000", "[::]:9000"),
    ("connect6", "source", "c = socket tcp6; set c IPV6_V6ONLY off; bind c [::1]:9000; connect c [::ffff:127.0.0.1]:8000", "unknown", "EAFNOSUPPORT"),
    ("connect6", "source", "c = socket tcp6; set c IPV6_V6ONLY off; connect c [::ffff:127.0.0.1]:0; d = dup c", "[::ffff:0.0.0.0]:10008", "[::]:0"),
    ("connect6", "source", "s = socket tcp6; bind s [::]:8000; listen s; c = socket tcp6; connect c [::1]:8000; connect c [::1]:8000", "EISCONN", "EISCONN"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; bind d 127.0.0.1:40001; connect c 127.0.0.1:8000", "127.0.0.1:40000", "127.0.0.1:40000"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; bind d 0.0.0.0:40001; connect c 127.0.0.1:8000", "127.0.0.1:40000", "127.0.0.1:40000"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; bind d 10.0.0.1:40001; connect c 127.0.0.1:8000", "127.0.0.1:40000", "127.0.0.1:40001"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; connect d 127.0.0.1:8001; connect c 127.0.0.1:8000", "127.0.0.1:40000", "127.0.0.1:40001"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; connect d 127.0.0.1:8000; connect c 127.0.0.1:8000", "127.0.0.1:40000", "127.0.0.1:40000"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; connect d 127.0.0.1:8000; connect e 127.0.0.1:8000; connect c 127.0.0.1:8000", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; connect d 127.0.0.1:8000; connect e 127.0.0.1:8000; connect c 127.0.0.1:8001", "EADDRNOTAVAIL", "127.0.0.1:40001"),
    ("connect-port", "source", "host automatic-ports 40000-40000; c = socket udp; connect c 127.0.0.1:53", "127.0.0.1:40000", "unknown"),
    ("connect-port", "source", "host automatic-ports 40000-40001; s = socket tcp; bind s 127.0.0.1:8000; listen s; u = socket tcp; bind u 127.0.0.1:8001; listen u; c = socket tcp; d = socket tcp; e = socket tcp; set c IP_PORTRANGE high; connect c 127.0.0.1:8000", "127.0.0.1:49160", "127.0.0.1:49160"),
    ("which-listener", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:8000; bind t 127.0.0.1:8000; listen s; listen t; c = socket tcp; connect c 127.0.0.1:8000; a = accept t", "127.0.0.1:8000", "127.0.0.1:8000"),
    ("which-listener", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 0.0.0.0:8000; bind t 0.0.0.0:8000; listen s; listen t; c = socket tcp; connect c 127.0.0.1:8000; a = accept t", "EAGAIN", "127.0.0.1:8000"),
    ("which-listener", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:8000; bind t 0.0.0.0:8000; listen s; listen t; c = socket tcp; connect c 127.0.0.1:8000; a = accept s", "127.0.0.1:8000", "127.0.0.1:8000"),
    ("which-listener", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:8000; bind t 127.0.0.1:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000", "ECONNREFUSED", "ECONNREFUSED"),
    ("which-listener", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 0.0.0.0:8000; bind t 127.0.0.1:8000; listen s; c = socket tcp; connect c 10.0.0.1:8000", "10.0.0.1:10008", "10.0.0.1:10008"),
    ("which-listener", "source", "s = socket tcp; t = socket tcp6; set t IPV6_V6ONLY off; bind s 0.0.0.0:8000; bind t [::]:8000; listen s; listen t; c = socket tcp; connect c 127.0.0.1:8000; a = accept s", "127.0.0.1:8000", "EAGAIN"),
    ("which-listener", "source", "s = socket tcp; t = socket tcp6; set t IPV6_V6ONLY off; bind s 0.0.0.0:8000; bind t [::]:8000; listen s; listen t; c = socket tcp; connect c 127.0.0.1:8000; a = accept t", "EAGAIN", "[::ffff:127.0.0.1]:8000"),
    ("reuseport-lb-group", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT_LB on; set t SO_REUSEPORT_LB on; bind s 127.0.0.1:8000; bind t 127.0.0.1:8000; listen s; listen t; c = socket tcp; connect c 127.0.0.1:8000", "127.0.0.1:10009", "unknown"),
    ("raw-connect", "source", "r = socket raw; connect r 127.0.0.1:0", "0.0.0.0:0", "0.0.0.0:0"),
    ("raw-connect", "source", "r = socket raw; connect r 127.0.0.1:0; connect r [::1]:0", "EINVAL", "EINVAL"),
    ("raw-connect", "source", "r = socket raw6; connect r [fd00::1]:0", "[fd00::1]:0", "[fd00::1]:0"),
    ("raw-connect", "source", "r = socket raw6; connect r [fd00::1]:0; connect r [::1]:0; shutdown r both", "[fd00::1]:0", "[fd00::1]:0"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c unix:/s", "unix:auto", "unix:auto"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c unix:/s; a = accept s", "unix:/s", "unix:/s"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c unix:/s; connect c unix:/s", "EISCONN", "EISCONN"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c unix:/t", "ENOENT", "ENOENT"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c unix:@t", "ENOENT", "ENOENT"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; close s; connect c unix:/s", "ECONNREFUSED", "ECONNREFUSED"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; c = socket unix; connect c unix:/s", "ECONNREFUSED", "ECONNREFUSED"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; d = socket unix-dgram; connect d unix:/s", "EPROTOTYPE", "EPROTOTYPE"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c 127.0.0.1:80", "ENOENT", "EAFNOSUPPORT"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect s unix:/s", "EOPNOTSUPP", "unknown"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c unix:/s; close s; connect c unix:/s", "unknown", "unknown"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; connect c unix:/s; listen c", "EINVAL", "EINVAL"),
    ("unix-connect", "source", "d = socket unix-dgram; bind d unix:/d; e = socket unix-dgram; connect e unix:/d; connect e unix:/d", "unix:auto", "unix:auto"),
    ("unix-connect", "source", "d = socket unix-dgram; bind d unix:/d; e = socket unix-dgram; connect e unix:/d; close d; connect e unix:/d", "ECONNREFUSED", "ECONNREFUSED"),
    ("unix-connect", "source", "d = socket unix-dgram; bind d unix:/d; e = socket unix-dgram; f = socket unix-dgram; connect e unix:/d; connect f unix:/d; close d; getpeername e", "ENOTCONN", "ENOTCONN"),
    ("unix-connect", "source", "d = socket unix-dgram; bind d unix:/d; e = socket unix-dgram; f = socket unix-dgram; connect e unix:/d; connect f unix:/d; close d; getpeername f", "ENOTCONN", "ENOTCONN"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; d = socket unix; connect c unix:/s; connect d unix:/s; a = accept s; close c; getpeername a", "ENOTCONN", "ENOTCONN"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; d = socket unix; connect c unix:/s; connect d unix:/s; a = accept s; b = accept s; close c; getpeername b", "unix:auto", "unix:auto"),
    ("unix-connect", "source", "s = socket unix; bind s unix:/s; listen s; c = socket unix; d = socket unix; connect c unix:/s; connect d unix:/s; close s; getpeername d", "ENOTCONN", "ENOTCONN"),
    // Routing tables: a bind looks at none.
    ("fib", "source", "s = socket tcp; set s SO_SETFIB 1", "EINVAL", "EINVAL"),
    ("fib", "source", "s = socket tcp; set s SO_SETFIB -1", "EINVAL", "EINVAL"),
    ("fib", "source", "s = socket tcp; set s SO_SETFIB 0", "0.0.0.0:0", "0.0.0.0:0"),
    ("fib", "source", "s = socket unix; set s SO_SETFIB 1", "EINVAL", "EINVAL"),
    ("portrange", "source", "sysctl net.inet.ip.portrange.hifirst = 50000; sysctl net.inet.ip.portrange.hilast = 50001; t = socket tcp; bind t 0.0.0.0:50001; s = socket tcp; set s IP_PORTRANGE high; bind s 0.0.0.0:0", "0.0.0.0:50000", "0.0.0.0:50000"),
    ("portrange", "source", "sysctl net.inet.ip.portrange.lowfirst = 901; sysctl net.inet.ip.portrange.lowlast = 900; t = socket tcp; bind t 0.0.0.0:901; s = socket tcp; set s IP_PORTRANGE low; bind s 0.0.0.0:0", "0.0.0.0:900", "0.0.0.0:900"),
    ("portrange", "source", "sysctl net.inet.ip.portrange.first = 40001; sysctl net.inet.ip.portrange.last = 40000; t = socket tcp; bind t 0.0.0.0:40001; s = socket tcp; bind s 0.0.0.0:0", "0.0.0.0:40000", "0.0.0.0:40000"),
    ("portrange", "source", "sysctl net.inet.ip.portrange.reservedhigh = 79; process alice uid 1000; alice: s = socket tcp; alice: bind s 0.0.0.0:80", "0.0.0.0:80", "0.0.0.0:80"),
    ("portrange", "source", "sysctl net.inet.ip.portrange.reservedlow = 100; process alice uid 1000; alice: s = socket tcp; alice: bind s 0.0.0.0:80", "0.0.0.0:80", "0.0.0.0:80"),
    ("portrange", "source", "sysctl net.inet.ip.portrange.reservedlow = 100; process alice uid 1000; alice: s = socket tcp; alice: bind s 0.0.0.0:100", "EACCES", "EACCES"),
    ("fib", "source", "sysctl net.fibs = 2; s = socket tcp; set s SO_SETFIB 1; t = socket tcp; bind t 0.0.0.0:8000; bind s 0.0.0.0:8000", "EADDRINUSE", "EADDRINUSE"),
    ("fib", "source", "sysctl net.fibs = 2; s = socket tcp; set s SO_SETFIB 1; connect s 127.0.0.1:8000", "unknown", "unknown"),
    ("fib", "source", "sysctl net.fibs = 2; s = socket tcp; set s SO_SETFIB 1; set s SO_SETFIB 0; connect s 127.0.0.1:8000", "ECONNREFUSED", "ECONNREFUSED"),
    ("fib", "source", "sysctl net.fibs = 2; s = socket unix; set s SO_SETFIB 1; connect s unix:/a", "ENOENT", "ENOENT"),
    // SO_REUSEPORT_LB: whoever is bound joins the group of its address.
    ("reuseport-lb", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT_LB on; set t SO_REUSEPORT_LB on; bind s 127.0.0.1:8000; bind t 127.0.0.1:8000", "EADDRINUSE", "127.0.0.1:8000"),
    ("reuseport-lb", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT_LB on; bind s 127.0.0.1:8000; bind t 127.0.0.1:8000", "EADDRINUSE", "EADDRINUSE"),
    ("reuseport-lb", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT_LB on; set t SO_REUSEPORT on; bind s 127.0.0.1:8000; bind t 127.0.0.1:8000", "EADDRINUSE", "EADDRINUSE"),
    ("reuseport-lb", "source", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT_LB on; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:8000; bind t 127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000"),
    ("reuseport-lb", "source", "s = socket tcp; t = socket tcp; set t SO_REUSEPORT_LB on; bind s 0.0.0.0:8000; bind t 127.0.0.1:8000", "EADDRINUSE", "127.0.0.1:8000"),
    ("reuseport-lb", "source", "alice: s = socket tcp; bob: t = socket tcp; set s SO_REUSEPORT_LB on; set t SO_REUSEPORT_LB on; alice: bind s 127.0.0.1:8000; bob: bind t 127.0.0.1:8000", "EADDRINUSE", "EADDRINUSE"),
    ("reuseport-lb", "kernel", "alice: s = socket tcp; bob: t = socket tcp; set s SO_REUSEPORT_LB on; set t SO_REUSEPORT_LB on; alice: bind s 0.0.0.0:8000; bob: bind t 0.0.0.0:8000", "EADDRINUSE", "EADDRINUSE"),
    ("reuseport-lb", "kernel", "alice: s = socket tcp6; bob: t = socket tcp6; set s SO_REUSEPORT_LB on; set t SO_REUSEPORT_LB on; alice: bind s [::]:8000; bob: bind t [::]:8000", "EADDRINUSE", "EADDRINUSE"),
    ("reuseport-lb", "source", "s = socket udp; t = socket udp; set s SO_REUSEPORT_LB on; set t SO_REUSEPORT_LB on; bind s 224.0.0.1:8000; bind t 224.0.0.1:8000", "EADDRINUSE", "224.0.0.1:8000"),
    ("reuseport-lb-group", "source", "s = socket tcp; set s SO_REUSEPORT_LB on; bind s 127.0.0.1:8000; listen s; c = socket tcp; connect c 127.0.0.1:8000", "127.0.0.1:10008", "127.0.0.1:10008"),
    ("udplite", "source", "s = socket udplite", "EPROTONOSUPPORT", "0.0.0.0:0"),
    ("unix-family", "source", "s = socket unix; bind s hex:00002f746d702f73", "unix:/tmp/s", "EAFNOSUPPORT"),
];

/// Whole scripts with what 14.3 answers to each call, by reading its source.
const SCRIPTS: &[(&str, &str)] = &[
    (
        "fblen",
        "\
host kernel freebsd 14.3
s = socket tcp
bind s 127.0.0.1:8080 len 129            expect EINVAL
bind s 127.0.0.1:8080 len 255            expect EINVAL
bind s 127.0.0.1:8080 len 256            expect ENAMETOOLONG
bind s nowhere len 255                   expect EFAULT
bind s nowhere len 256                   expect ENAMETOOLONG
",
    ),
    (
        "shutdown-listener",
        "\
host kernel freebsd 14.3
host address 10.0.0.1/24 10.0.0.2/24 [fd00::1/64] [fe80::1/64]
process a uid 1000
process b uid 1001
a: s = socket tcp
a: bind s 127.0.0.1:8080
a: listen s
a: shutdown s read                    expect ENOTCONN
a: t = socket tcp
a: bind t 127.0.0.1:8080              expect EADDRINUSE
a: shutdown s write                   expect ENOTCONN
a: bind t 127.0.0.1:8080              expect EADDRINUSE
",
    ),
    (
        "listen-low-nonroot",
        "\
host kernel freebsd 14.3
host address 10.0.0.1/24 10.0.0.2/24 [fd00::1/64] [fe80::1/64]
process a uid 1000
process b uid 1001
a: s = socket tcp
a: set s IP_PORTRANGE low
a: listen s                           expect EPERM
s2 = socket tcp
set s2 IP_PORTRANGE low
a: listen s2                          expect EPERM
listen s                              expect ok
",
    ),
    (
        "raw",
        "\
host kernel freebsd 14.3
host address 10.0.0.1/24 10.0.0.2/24 [fd00::1/64] [fe80::1/64]
process a uid 1000
process b uid 1001
r = socket raw
bind r hex:1c000000000000000000000000000000 expect EAFNOSUPPORT
bind r hex:00000000000000000000000000000000 expect EAFNOSUPPORT
bind r [::1]:0                        expect EAFNOSUPPORT
bind r 127.0.0.1:0 len 15             expect EINVAL
bind r 10.0.0.77:5                    expect EADDRNOTAVAIL
bind r 10.0.0.1:5                     expect ok
bind r 10.0.0.2:5                     expect ok
bind r 224.0.0.1:5                    expect EADDRNOTAVAIL
bind r 0.0.0.0:5                      expect ok
a: q = socket raw                     expect EPERM
a: q = socket 2 3 300                 expect EPERM
q = socket 2 3 300                    expect EPROTONOSUPPORT
q = socket 2 3 0                      expect ok
listen q                              expect EOPNOTSUPP
",
    ),
    (
        "accept-errors",
        "\
host kernel freebsd 14.3
host address 10.0.0.1/24 10.0.0.2/24 [fd00::1/64] [fe80::1/64]
process a uid 1000
process b uid 1001
a: s = socket tcp
a: k = accept s                       expect EINVAL
a: u = socket udp
a: k = accept u                       expect EINVAL
a: x = socket unix-dgram
a: k = accept x                       expect EINVAL
a: listen s
a: k = accept s                       expect EAGAIN
",
    ),
    (
        "bindany",
        "\
host kernel freebsd 14.3
host address 10.0.0.1/24 10.0.0.2/24 [fd00::1/64] [fe80::1/64]
process a uid 1000
process b uid 1001
a: s = socket tcp
a: set s IP_BINDANY on                expect EPERM
a: set s IP_BINDANY off               expect EPERM
r = socket tcp
set r IP_BINDANY on                   expect ok
a: bind r 8.8.8.8:8080                expect ok
r2 = socket tcp
set r2 IP_BINDANY on
a: bind r2 8.8.8.8:80                 expect EACCES
set r2 IP_BINDANY off                 expect ok
bind r2 8.8.8.8:80                    expect EADDRNOTAVAIL
",
    ),
    (
        "jail-caller-host",
        "\
host kernel freebsd 14.3
host address 10.0.0.1/24 10.0.0.2/24 [fd00::1/64] [fe80::1/64]
process a uid 1000
process b uid 1001
jail J 10.0.0.2
process j uid 0 jail J
h = socket tcp
bind h 10.0.0.2:8080                  expect ok
j: s = socket tcp
bind s 10.0.0.2:8080                  expect EADDRINUSE
bind s 10.0.0.1:8080                  expect ok
",
    ),
];

#[test]
fn scripts_meet_their_expectations() {
    let mut wrong = Vec::new();
    for (name, text) in SCRIPTS {
        let script = parse(text, Host::loopback(Generation::FreeBsd14_3)).expect(name);
        let mut player = Player::new(&script, 64);
        for line in &script.lines {
            let got = player.play(&script, line, Pick::Random(7)).result;
            let met = match &line.expect {
                None | Some(Expect::Ok) => got.is_ok(),
                Some(Expect::Fails(e)) => got == Err((*e).into()),
                Some(Expect::Name(_) | Expect::Value(..)) => false,
            };
            if !met {
                wrong.push(format!(
                    "{name}:{}: {got:?}, not {:?}",
                    line.at, line.expect
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Hosts that lack something: what their last call gives on 9.1 and 14.3.
#[test]
fn hosts_without_addresses() {
    for (generation, wanted) in [
        (Generation::FreeBsd9_1, "EADDRNOTAVAIL"),
        (Generation::FreeBsd14_3, "ok"),
    ] {
        for calls in [
            "s = socket tcp6\nbind s [::]:80",
            "s = socket tcp6\nlisten s",
        ] {
            let mut host = Host::loopback(generation);
            host.v6.clear();
            let script = parse(calls, host).expect(calls);
            let mut player = Player::new(&script, 8);
            let mut last = Ok(());
            for line in &script.lines {
                last = player.play(&script, line, Pick::Random(7)).result;
            }
            let last = last.err().map_or("ok", |e| e.name());
            assert_eq!(last, wanted, "{generation:?} {calls}");
        }
    }
}

/// What the last call of a script gives: the local address, `ok`, an error, or
/// `unknown`.
fn answer(text: &str, generation: Generation) -> String {
    let host = Host::loopback(generation);
    let mut script = parse(text, host).expect(text);
    script.host.generation = generation;
    script.host.v6.push(V6 {
        addr: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        dev: 2,
        tentative: false,
    });
    let mut player = Player::new(&script, 64);
    let mut last = String::new();
    for line in &script.lines {
        let outcome = player.play(&script, line, Pick::Random(7));
        last = match (outcome.result, outcome.name) {
            (Ok(()), Some(name)) => format!("{name}"),
            (Ok(()), None) => "ok".to_owned(),
            (Err(e), _) => e.name().to_owned(),
        };
    }
    last
}

#[test]
fn both_generations_answer_as_their_kernels_do() {
    let mut wrong = Vec::new();
    for (name, _, calls, old, new) in KERNELS {
        let text = format!("{HEAD}{}", calls.replace("; ", "\n"));
        let got = [Generation::FreeBsd9_1, Generation::FreeBsd14_3].map(|g| answer(&text, g));
        if got != [*old, *new] {
            wrong.push(format!("{name}: {calls}\n  {got:?}, not {old} and {new}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn last_of(calls: &str, generation: Generation) -> (String, Vec<String>) {
    let text = format!("{HEAD}{}", calls.replace("; ", "\n"));
    let mut script = parse(&text, Host::loopback(generation)).expect(calls);
    script.host.generation = generation;
    let mut player = Player::new(&script, 64);
    player.net.host.vsock.cid = Some(3);
    let mut last = String::new();
    let mut functions = Vec::new();
    for line in &script.lines {
        let outcome = player.play(&script, line, Pick::Random(7));
        last = outcome.result.err().map_or("ok", |e| e.name()).to_owned();
        functions = outcome
            .trail
            .steps()
            .iter()
            .map(|s| s.function().to_owned())
            .collect();
    }
    (last, functions)
}

#[test]
fn freebsd_and_linux_answer_as_their_sources_say() {
    let mut wrong = Vec::new();
    let mut differ = 0;
    for (function, calls, linux, freebsd) in FACTS {
        let on_linux = last_of(calls, Generation::Linux6_18).0;
        let (on_freebsd, trail) = last_of(calls, Generation::FreeBsd14_3);
        if (on_linux.as_str(), on_freebsd.as_str()) != (*linux, *freebsd) {
            wrong.push(format!(
                "{function}: {calls}\n  linux {on_linux}, not {linux}; freebsd {on_freebsd}, not {freebsd}; {trail:?}"
            ));
        }
        differ += usize::from(linux != freebsd);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(FACTS.len() >= 60, "{} facts", FACTS.len());
    assert!(differ >= 25, "{differ} where the two differ");
}

/// A jail with one address of each family, one with two IPv4 addresses only.
const JAILS: &str = "\
host address 10.0.0.2/24 10.0.0.3/24
jail one 10.0.0.1 [fd00::1]
jail two 10.0.0.2 10.0.0.3
process in-one uid 0 jail one
process also-one uid 0 jail one
process in-two uid 0 jail two
process low uid 1000 jail one
";

#[rustfmt::skip]
/// The function of kern_jail.c, in_jail.c or in6_jail.c or who calls it; calls;
/// what the last of them gives: an error or the local address.
const JAILED: &[(&str, &str, &str)] = &[
    ("prison_check_af", "in-two: s = socket tcp6", "EPROTONOSUPPORT"),
    ("prison_check_af", "in-two: s = socket tcp", "0.0.0.0:0"),
    ("prison_check_af", "in-two: s = socket unix", "unix:auto"),
    ("prison_priv_check", "in-one: s = socket raw", "EPERM"),
    ("prison_priv_check", "in-one: s = socket tcp; in-one: set s IP_BINDANY on", "EPERM"),
    ("prison_priv_check", "in-one: s = socket tcp; in-one: bind s 10.0.0.1:80", "10.0.0.1:80"),
    ("prison_priv_check", "low: s = socket tcp; low: bind s 10.0.0.1:80", "EACCES"),
    ("prison_local_ip4", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:80", "10.0.0.1:80"),
    ("prison_local_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:80", "0.0.0.0:80"),
    ("prison_local_ip4", "in-one: s = socket tcp; in-one: bind s 127.0.0.1:80", "10.0.0.1:80"),
    ("prison_local_ip4", "in-two: s = socket tcp; in-two: bind s 127.0.0.1:80", "10.0.0.2:80"),
    ("prison_local_ip4", "in-two: s = socket tcp; in-two: bind s 10.0.0.3:80", "10.0.0.3:80"),
    ("prison_check_ip4", "in-two: s = socket tcp; in-two: bind s 10.0.0.1:80", "EADDRNOTAVAIL"),
    ("prison_check_ip4", "in-one: s = socket udp; in-one: bind s 224.0.0.1:5353", "EADDRNOTAVAIL"),
    ("prison_local_ip4", "s = socket tcp; in-two: bind s 10.0.0.1:80", "EADDRNOTAVAIL"),
    ("prison_local_ip6", "s = socket tcp6; in-two: bind s [::1]:80", "EAFNOSUPPORT"),
    ("prison_local_ip6", "in-one: s = socket tcp6; in-one: bind s [::]:80", "[fd00::1]:80"),
    ("prison_local_ip6", "in-one: s = socket tcp6; in-one: set s IPV6_V6ONLY off; in-one: bind s [::]:80", "[::]:80"),
    ("prison_local_ip6", "in-one: s = socket tcp6; in-one: bind s [::1]:80", "[fd00::1]:80"),
    ("prison_local_ip4", "in-one: s = socket tcp6; in-one: set s IPV6_V6ONLY off; in-one: bind s [::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80"),
    ("in_pcbbind", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:80; in-one: bind s 10.0.0.2:81", "EINVAL"),
    ("prison_local_ip4", "host automatic-ports 40000-40001; in-one: s = socket tcp; in-one: listen s", "10.0.0.1:40001"),
    // Who sees whom.
    ("prison_equal_ip4", "s = socket tcp; bind s 0.0.0.0:80; in-one: t = socket tcp; in-one: bind t 0.0.0.0:80", "10.0.0.1:80"),
    ("prison_equal_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:80; in-one: t = socket tcp; in-one: bind t 0.0.0.0:80", "10.0.0.1:80"),
    ("prison_equal_ip4", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:80; also-one: t = socket tcp; also-one: bind t 0.0.0.0:80", "EADDRINUSE"),
    ("prison_equal_ip4", "s = socket tcp; bind s 10.0.0.1:80; in-one: t = socket tcp; in-one: bind t 10.0.0.1:80", "10.0.0.1:80"),
    ("prison_equal_ip4", "s = socket tcp; bind s 0.0.0.0:8000; low: t = socket tcp; low: set t SO_REUSEADDR on; low: bind t 10.0.0.1:8000", "10.0.0.1:8000"),
    ("prison_equal_ip4", "host automatic-ports 40000-40001; s = socket tcp; bind s 0.0.0.0:40001; in-two: t = socket tcp; in-two: bind t 0.0.0.0:0", "0.0.0.0:40001"),
    ("prison_equal_ip4", "host automatic-ports 40000-40001; in-two: s = socket tcp; in-two: bind s 0.0.0.0:40000; in-two: u = socket tcp; in-two: bind u 0.0.0.0:40001; in-two: t = socket tcp; in-two: bind t 0.0.0.0:0", "EADDRNOTAVAIL"),
    // Who calls looks, who made the socket is seen.
    ("prison_equal_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:8000; t = socket tcp; in-two: bind t 10.0.0.2:8000", "EADDRINUSE"),
    ("prison_equal_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:8000; in-two: t = socket tcp; in-two: bind t 10.0.0.2:8000", "EADDRINUSE"),
    ("prison_equal_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:8000; in-two: t = socket tcp; bind t 10.0.0.2:8000", "10.0.0.2:8000"),
    ("prison_equal_ip4", "low: s = socket tcp; bind s 10.0.0.1:8000; low: t = socket tcp; bind t 0.0.0.0:8000", "0.0.0.0:8000"),
    ("prison_equal_ip4", "s = socket tcp; bind s 10.0.0.2:8000; in-two: t = socket tcp; bind t 10.0.0.2:8000", "EADDRINUSE"),
    ("prison_equal_ip4", "s = socket tcp; listen s; in-two: t = socket tcp; in-two: bind t 10.0.0.3:8000; low: u = socket tcp; u = socket tcp; bind u 0.0.0.0:8000", "0.0.0.0:8000"),
    ("in_pcb_lport_dest", "host automatic-ports 40000-40001; s = socket tcp; in-two: bind s 0.0.0.0:40001; in-two: t = socket tcp; bind t 0.0.0.0:0", "0.0.0.0:40000"),
    ("prison_remote_ip4", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:8000; in-one: listen s; in-one: c = socket tcp; in-one: connect c 127.0.0.1:8000", "10.0.0.1:10008"),
    ("prison_get_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:8000; in-two: listen s; in-two: c = socket tcp; in-two: connect c 0.0.0.0:8000", "10.0.0.2:10008"),
    ("prison_saddrsel_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:8000; in-two: listen s; in-two: c = socket tcp; in-two: connect c 10.0.0.3:8000", "10.0.0.2:10008"),
    ("prison_remote_ip4", "u = socket udp; in-two: connect u 10.0.0.9:53", "10.0.0.2:10008"),
    ("prison_remote_ip6", "c = socket tcp6; in-two: connect c [::1]:8000", "EAFNOSUPPORT"),
    ("prison_remote_ip6", "u = socket udp6; in-one: connect u [::1]:53", "[fd00::1]:10008"),
    ("in_pcblookup", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:8000; in-one: listen s; c = socket tcp; connect c 127.0.0.1:8000", "ECONNREFUSED"),
    ("in_pcblookup", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:8000; in-two: listen s; c = socket tcp; connect c 10.0.0.1:8000", "ECONNREFUSED"),
    ("in_pcblookup", "in-two: t = socket tcp; in-two: bind t 0.0.0.0:8000; in-two: listen t; s = socket tcp; bind s 10.0.0.2:8000; listen s; c = socket tcp; connect c 10.0.0.2:8000; a = accept t", "10.0.0.2:8000"),
    ("in_pcblookup", "in-two: t = socket tcp; in-two: bind t 10.0.0.2:8000; in-two: listen t; in-two: u = socket tcp; in-two: set u SO_REUSEADDR on; in-two: bind u 0.0.0.0:8000; in-two: listen u; c = socket tcp; connect c 10.0.0.2:8000; a = accept t", "10.0.0.2:8000"),
    ("prison_check_ip4", "r = socket raw; in-two: bind r 10.0.0.1:0", "EADDRNOTAVAIL"),
    ("prison_check_ip4", "r = socket raw; in-two: bind r 0.0.0.0:0", "EADDRNOTAVAIL"),
    ("prison_check_ip4", "r = socket raw; in-two: bind r 10.0.0.2:0", "10.0.0.2:0"),
    ("prison_check_ip6", "r = socket raw6; in-two: bind r [fd00::1]:0", "EAFNOSUPPORT"),
    ("prison_check_ip6", "r = socket raw6; in-one: bind r [::1]:0", "EADDRNOTAVAIL"),
    ("prison_check_ip6", "r = socket raw6; in-one: bind r [fd00::1]:0", "[fd00::1]:0"),
];

#[test]
fn jails_answer_as_their_source_says() {
    let mut wrong = Vec::new();
    for generation in [Generation::FreeBsd9_1, Generation::FreeBsd14_3] {
        for (function, calls, wanted) in JAILED {
            let text = format!("{HEAD}{JAILS}{}", calls.replace("; ", "\n"));
            let script = parse(&text, Host::loopback(generation)).expect(calls);
            let again = parse(&format!("{script}"), Host::loopback(generation)).expect("printed");
            assert_eq!(
                (&script.jails, &script.processes),
                (&again.jails, &again.processes)
            );
            let mut player = Player::new(&script, 64);
            let mut last = None;
            for line in &script.lines {
                last = Some(player.play(&script, line, Pick::Random(7)));
            }
            let last = last.expect("a call");
            let got = match (last.result, last.name) {
                (Ok(()), Some(name)) => format!("{name}"),
                (Ok(()), None) => "ok".to_owned(),
                (Err(e), _) => e.name().to_owned(),
            };
            if got != *wanted {
                let steps = last.trail.steps();
                wrong.push(format!(
                    "{}: {function}: {calls}\n  {got}, not {wanted}; {steps:?}",
                    generation
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever was called, nothing is left once every descriptor is closed but, in
/// 9.1, what is in TIME_WAIT.
#[test]
fn closing_leaves_no_place_taken() {
    for generation in [Generation::FreeBsd9_1, Generation::FreeBsd14_3] {
        let mut waiting = 0;
        for (name, _, calls, ..) in KERNELS {
            let text = format!("{HEAD}{}", calls.replace("; ", "\n"));
            let script = parse(&text, Host::loopback(generation)).expect(calls);
            for backwards in [false, true] {
                let mut player = Player::new(&script, 64);
                for line in &script.lines {
                    player.play(&script, line, Pick::Random(7));
                }
                let vars = player.vars();
                for i in 0..vars {
                    player.close(if backwards { vars - 1 - i } else { i });
                }
                let net = player.net.net();
                let left: Vec<State> = net.ids().map(|id| net.get(id).state).collect();
                let none = generation == Generation::FreeBsd14_3 && !left.is_empty();
                let odd = left.iter().any(|s| *s != State::TimeWait);
                assert!(!none && !odd, "{name}: {calls}: {left:?}");
                waiting += left.len();
            }
        }
        assert_eq!(waiting != 0, generation == Generation::FreeBsd9_1);
    }
}

/// docs/model.md counts the facts of each name by who says so.
#[test]
fn the_document_says_who_says_so() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/model.md");
    let text = std::fs::read_to_string(path).expect("docs/model.md");
    let (_, text) = text
        .split_once("## What says so of FreeBSD")
        .expect("the chapter");
    let written: Vec<(&str, [usize; 2])> = text
        .lines()
        .skip_while(|line| !line.starts_with("| fact |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let number = |i: usize| cells[i].parse().expect(line);
            (cells[1].trim_matches('`'), [number(3), number(4)])
        })
        .collect();
    let mut counted: Vec<(&str, [usize; 2])> = Vec::new();
    for (name, origin, ..) in KERNELS {
        let place = match counted.iter().position(|(n, _)| n == name) {
            Some(place) => place,
            None => {
                counted.push((name, [0, 0]));
                counted.len() - 1
            }
        };
        match *origin {
            "kernel" => counted[place].1[0] += 1,
            "source" => counted[place].1[1] += 1,
            other => panic!("{name}: {other}"),
        }
    }
    assert_eq!(written, counted);
}
