// The socket behind a number is exchanged where nobody can see it.
//: case deny
//: rule deny bind udp *:8080
//: stdout first bind: ok
//: stdout bind of what is there now: EACCES
//: log 1 deny bind
//: case allow
//: rule default deny for bind
//: rule allow bind tcp *:8080
//: stdout first bind: ok
//: stdout bind of what is there now: EACCES
//: log 1 deny bind
//: case unasked
//: rule allow bind tcp *:8080
//: rule allow bind any loopback:*
//: warns this has no effect
//: same
//: log 2 allow bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("first bind", bind_ip(fd, "127.0.0.1", 8080));
    int other = must(past_libc(SYS_socket, AF_INET, SOCK_DGRAM, 0));
    must(past_libc(SYS_dup3, other, fd, 0));
    say("bind of what is there now", bind_ip(fd, "127.0.0.1", 8080));
}
