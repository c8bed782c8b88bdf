// IPv6 sockets are moved to the loopback of their family.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: stdout bind: ok
//: stdout name: [::1]:8080 (28 bytes)
//: stdout really: [::1]:18080
//: stdout bind v6only: ok
//: stdout name: [::]:8080 (28 bytes)
//: stdout really: [::1]:18080
//: log 2 move bind
#include "check.h"

int main(void)
{
    int fd = tcp6(), on = 1;
    say("bind", bind_ip(fd, "::1", 8080));
    say_name("name", fd);
    say_real_name("really", fd);
    close(fd);
    fd = tcp6();
    must(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    say("bind v6only", bind_ip(fd, "::", 8080));
    say_name("name", fd);
    say_real_name("really", fd);
}
