// The socket behind a number is exchanged where nobody can see it, and is told to
// listen, which would give it a port.
//: case deny
//: rule deny bind tcp *:auto
//: stdout for one that had a port: EACCES
//: stdout for a datagram socket: EACCES
//: stdout one that has a port: ok
//: log 2 deny listen
#include "check.h"

static void exchange(int fd, int other)
{
    must(past_libc(SYS_dup3, other, fd, 0));
}

int main(void)
{
    int fd = tcp(), datagram = udp(), bound = tcp();
    int other = must(past_libc(SYS_socket, AF_INET, SOCK_STREAM, 0));
    must(bind_ip(fd, "127.0.0.1", 8080));
    exchange(fd, other);
    say("for one that had a port", listen(fd, 1));
    other = must(past_libc(SYS_socket, AF_INET, SOCK_STREAM, 0));
    exchange(datagram, other);
    say("for a datagram socket", listen(datagram, 1));
    must(bind_ip(bound, "127.0.0.1", 8081));
    fd = tcp();
    exchange(fd, bound);
    say("one that has a port", listen(fd, 1));
}
