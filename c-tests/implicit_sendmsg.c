// sendmsg() gives an unbound UDP socket a port.
//: case deny
//: rule deny bind udp * implicit
//: stdout sendmsg: EACCES
//: stdout has a port: no
//: log 1 deny sendmsg
//: case a rule about binds only
//: rule deny bind udp *
//: same
#include "check.h"

int main(void)
{
    int fd = udp();
    struct address a = ip("127.0.0.1", 9);
    struct iovec io = {"x", 1};
    struct msghdr m = {.msg_name = &a, .msg_namelen = a.length, .msg_iov = &io, .msg_iovlen = 1};
    say("sendmsg", sendmsg(fd, &m, 0));
    printf("has a port: %s\n", port_of(fd) ? "yes" : "no");
}
