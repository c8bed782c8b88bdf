// connect() gives an unbound TCP socket a port.
//: case deny
//: rule allow bind tcp *:8080
//: rule deny bind tcp * implicit
//: stdout connect: EACCES
//: stdout has a port: no
//: log 1 deny connect
//: case a rule about binds only
//: rule allow bind tcp *:8080
//: rule deny bind tcp *
//: same
#include "check.h"

int main(void)
{
    int fd = tcp();
    struct address a = ip("127.0.0.1", 9);
    int listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 8080));
    must(listen(listener, 1));
    a = ip("127.0.0.1", 8080);
    say("connect", connect(fd, &a.any, a.length));
    printf("has a port: %s\n", port_of(fd) ? "yes" : "no");
}
