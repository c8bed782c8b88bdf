//! Facts of FreeBSD 14.3 beside those of Linux 6.18: one script each, what its
//! last call gives on either, and the FreeBSD function that says so.
//!
//! There is no FreeBSD here to ask; the answers are from its source, and those
//! marked in the notes were run from that source outside a kernel.

use bindgate_core::model::host::V6;
use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Generation, Host, Pick};

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
    ("udplite", "source", "s = socket udplite", "EPROTONOSUPPORT", "0.0.0.0:0"),
    ("unix-family", "source", "s = socket unix; bind s hex:00002f746d702f73", "unix:/tmp/s", "EAFNOSUPPORT"),
];

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
                    generation.name()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
