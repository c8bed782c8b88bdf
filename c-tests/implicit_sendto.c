// sendto() gives an unbound UDP socket a port.
//: case deny
//: rule deny bind udp * implicit
//: stdout sendto: EACCES
//: stdout has a port: no
//: log 1 deny sendto
//: case a rule about binds only
//: rule deny bind udp *
//: same
#include "check.h"

int main(void)
{
    int fd = udp();
    struct address a = ip("127.0.0.1", 9);
    say("sendto", sendto(fd, "x", 1, 0, &a.any, a.length));
    printf("has a port: %s\n", port_of(fd) ? "yes" : "no");
}
