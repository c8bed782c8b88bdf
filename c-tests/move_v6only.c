// A socket for IPv6 only cannot be at an IPv4 address: the move is refused as
// for any socket whose family has no such address, not with the kernel's EINVAL.
//: case move
//: rule move bind tcp *:8080 to 127.0.0.1:18080
//: warns this target has IPv4 only
//: stdout IPv6 only: EAFNOSUPPORT
//: stdout both: ok
//: stdout IPV6_V6ONLY: 0
//: log 2 move bind
//: case move to IPv6
//: rule move bind tcp *:8080 to [::1]:18080
//: warns an IPv4 socket cannot be bound to an IPv6 address
//: stdout IPv6 only: ok
//: stdout both: ok
//: stdout IPV6_V6ONLY: 0
//: log 2 move bind
#include "check.h"

int main(void)
{
    int on = 1, off = 0, fd = tcp6();
    must(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    say("IPv6 only", bind_ip(fd, "::", 8080));
    close(fd);
    fd = tcp6();
    must(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    say("both", bind_ip(fd, "::", 8080));
    int v6only = -1;
    socklen_t length = sizeof v6only;
    must(getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &length));
    say_number("IPV6_V6ONLY", v6only);
}
