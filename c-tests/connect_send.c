// Rules for connect are about every call that names a peer: connect, and each
// message that is sent to an address. A TCP socket that is connected takes no
// notice of one.
//: case deny
//: rule deny connect udp *:8080
//: stdout connect: EACCES
//: stdout sendto: EACCES
//: stdout sendmsg: EACCES
//: stdout sendmmsg: 1 of 3
//: stdout sendmmsg: EACCES
//: stdout to another port: ok
//: stdout came to 8080: 0
//: stdout came to 18080: 0
//: log 1 deny connect
//: log 1 deny sendto
//: log 1 deny sendmsg
//: log 2 deny sendmmsg
//: case move
//: rule move connect udp *:8080 to loopback:18080
//: stdout connect: ok
//: stdout sendto: ok
//: stdout sendmsg: ok
//: stdout sendmmsg: 3 of 3
//: stdout sendmmsg: ok
//: stdout to another port: ok
//: stdout came to 8080: 0
//: stdout came to 18080: 5
//: case default
//: rule allow connect udp *:9090
//: rule default deny EPERM for connect
//: stdout connect: EPERM
//: stdout sendto: EPERM
//: stdout sendmsg: EPERM
//: stdout sendmmsg: 1 of 3
//: stdout sendmmsg: EPERM
//: stdout to another port: ok
//: stdout came to 8080: 0
//: stdout came to 18080: 0
#include "check.h"

static void count(const char *what, int server)
{
    char got[2];
    long n = 0;
    while (recv(server, got, 1, MSG_DONTWAIT) == 1)
        n++;
    say_number(what, n);
}

int main(void)
{
    int server = udp(), moved = udp(), client = udp(), sender = udp();
    struct address a = ip("127.0.0.1", 8080), other = ip("127.0.0.1", 9090);
    struct iovec byte = {"x", 1};
    struct msghdr message = {
        .msg_name = &a.any, .msg_namelen = a.length, .msg_iov = &byte, .msg_iovlen = 1};
    struct mmsghdr several[3] = {{.msg_hdr = message}, {.msg_hdr = message}, {.msg_hdr = message}};
    several[0].msg_hdr.msg_name = &other.any;

    must(bind_ip(server, "127.0.0.1", 8080));
    must(bind_ip(moved, "127.0.0.1", 18080));
    // The socket has a port before the first send.
    must(bind_ip(sender, "127.0.0.1", 0));
    say("connect", connect(client, &a.any, a.length));
    say("sendto", sendto(sender, "x", 1, 0, &a.any, a.length));
    say("sendmsg", sendmsg(sender, &message, 0));
    printf("sendmmsg: %d of 3\n", sendmmsg(sender, several, 3, 0));
    say("sendmmsg", sendmmsg(sender, several + 1, 1, 0));
    say("to another port", sendto(sender, "x", 1, 0, &other.any, other.length));
    count("came to 8080", server);
    count("came to 18080", moved);
}
