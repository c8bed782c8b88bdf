// A send gives a socket a port, and is judged, but not on a socket that took the
// place of one with a port where nobody could see it: to ask the kernel before
// each send would cost too much.
//: case deny
//: rule deny bind udp *:auto implicit
//: stdout a send: EACCES
//: stdout a send from what is there now: ok
//: log 1 deny sendto
#include "check.h"

int main(void)
{
    struct address to = ip("127.0.0.1", 8082);
    say("a send", sendto(udp(), "x", 1, 0, &to.any, to.length));
    int fd = udp(), other = must(past_libc(SYS_socket, AF_INET, SOCK_DGRAM, 0));
    must(bind_ip(fd, "127.0.0.1", 8080));
    must(past_libc(SYS_dup3, other, fd, 0));
    say("a send from what is there now", sendto(fd, "x", 1, 0, &to.any, to.length));
}
