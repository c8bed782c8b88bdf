// Limit: rules for connect are about connect(2). A send to an address asks none
// of them; what it binds on the way is judged as a bind.
//: case deny
//: rule deny connect udp *:8080
//: stdout connect: EACCES
//: stdout sendto: ok
//: stdout sendmsg: ok
//: case move
//: rule move connect udp *:8080 to loopback:18080
//: stdout connect: ok
//: stdout sendto: ok
//: stdout sendmsg: ok
#include "check.h"

int main(void)
{
    int server = udp(), client = udp(), sender = udp();
    struct address a = ip("127.0.0.1", 8080);
    struct iovec byte = {"x", 1};
    struct msghdr message = {
        .msg_name = &a.any, .msg_namelen = a.length, .msg_iov = &byte, .msg_iovlen = 1};

    must(bind_ip(server, "127.0.0.1", 8080));
    say("connect", connect(client, &a.any, a.length));
    say("sendto", sendto(sender, "x", 1, 0, &a.any, a.length));
    say("sendmsg", sendmsg(sender, &message, 0));
    // Both have come to the address that was called.
    char got[2];
    must(recv(server, got, 1, MSG_DONTWAIT));
    must(recv(server, got, 1, MSG_DONTWAIT));
}
