// Limit: before Linux 6.8 nobody tells of a TCP socket that is bound and does
// not listen. Where a connection of an earlier listener is left at the same
// real address, that one is taken for all that is there: a third address can be
// redirected onto the second's.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: rule move bind tcp *:8081 to loopback:18080
//: rule move bind tcp *:8082 to loopback:18080
//: warns redirects another address to the same target
//: warns redirects another address to the same target
//: stdout first: ok
//: stdout second: ok
//: stdout third, EADDRINUSE since Linux 6.8: 1
//: log 3 move bind
#include "check.h"
#include <sys/utsname.h>

static int moved(int port)
{
    int fd = tcp(), on = 1;
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    return bind_ip(fd, "127.0.0.1", port) < 0 ? -1 : fd;
}

int main(void)
{
    struct utsname system;
    int major = 0, minor = 0;
    must(uname(&system));
    must(sscanf(system.release, "%d.%d", &major, &minor));
    int tells = major > 6 || (major == 6 && minor >= 8);

    int listener = moved(8080);
    say("first", listener);
    must(listen(listener, 1));
    struct address real = {.length = sizeof real.storage};
    must(past_libc(SYS_getsockname, listener, (long)&real.any, (long)&real.length));
    must(connect(tcp(), &real.any, real.length));
    must(accept(listener, NULL, NULL));
    close(listener);
    say("second", moved(8081));
    say_number("third, EADDRINUSE since Linux 6.8",
               (moved(8082) < 0 && errno == EADDRINUSE) == tells);
}
