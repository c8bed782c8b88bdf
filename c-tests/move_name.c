// After a move, the program sees the address it asked for; the kernel has
// another one.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: stdout bind: ok
//: stdout name: 0.0.0.0:8080 (16 bytes)
//: stdout really: 127.0.0.1:18080
//: stdout listen: ok
//: stdout name of the listener: 0.0.0.0:8080 (16 bytes)
//: stdout short room: ok 16, 0.0.0.0:8080
//: log 1 move bind
//: case port only
//: rule move bind tcp *:8080 to *:18080
//: stdout bind: ok
//: stdout name: 0.0.0.0:8080 (16 bytes)
//: stdout really: 0.0.0.0:18080
//: stdout listen: ok
//: stdout name of the listener: 0.0.0.0:8080 (16 bytes)
//: stdout short room: ok 16, 0.0.0.0:8080
//: case to a unix socket
//: rule move bind tcp *:8080 to unix:$DIR/s
//: stdout bind: ok
//: stdout name: 0.0.0.0:8080 (16 bytes)
//: stdout really: unix:
//: stdout listen: ok
//: stdout name of the listener: 0.0.0.0:8080 (16 bytes)
//: stdout short room: ok 16, 0.0.0.0:8080
//: log 1 move bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "0.0.0.0", 8080));
    say_name("name", fd);
    struct address real = {.length = sizeof real.storage};
    must(past_libc(SYS_getsockname, fd, (long)&real.any, (long)&real.length));
    printf("really: %s\n", real.any.sa_family == AF_UNIX ? "unix:" : text(&real));
    say("listen", listen(fd, 5));
    say_name("name of the listener", fd);
    struct address a = ip("255.255.255.255", 0);
    a.length = 8; // the kernel fills what there is room for and tells the whole length
    int result = getsockname(fd, &a.any, &a.length);
    a.in.sin_addr.s_addr &= a.length == 16 ? ~0u : 0;
    printf("short room: %s %u, %s\n", result ? "fails" : "ok", a.length, text(&a));
}
