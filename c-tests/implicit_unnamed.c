// A send without an address binds an unbound UDP socket, though it then fails:
// the socket receives from then on.
//: case deny
//: rule deny bind udp * implicit
//: stdout send: EACCES
//: stdout a port: no
//: stdout sendto: EACCES
//: stdout a port: no
//: stdout sendmsg: EACCES
//: stdout a port: no
//: stdout sendmmsg: EACCES
//: stdout a port: no
//: log 1 deny send
//: log 1 deny sendto
//: log 1 deny sendmsg
//: log 1 deny sendmmsg
//: case a rule about binds only
//: rule deny bind udp *
//: same
#include "check.h"

static void say_port(int fd)
{
    printf("a port: %s\n", port_of(fd) ? "yes" : "no");
}

int main(void)
{
    struct iovec byte = {"x", 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1};
    struct mmsghdr several = {.msg_hdr = message};
    int fd = udp();

    say("send", send(fd, "x", 1, 0));
    say_port(fd);
    say("sendto", sendto(fd = udp(), "x", 1, 0, NULL, 0));
    say_port(fd);
    say("sendmsg", sendmsg(fd = udp(), &message, 0));
    say_port(fd);
    say("sendmmsg", sendmmsg(fd = udp(), &several, 1, 0));
    say_port(fd);
}
