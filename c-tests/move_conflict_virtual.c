// Two virtual addresses cannot have one real one.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: rule move bind tcp *:8081 to loopback:18080
//: warns redirects another address to the same target
//: stdout first: ok
//: stdout second: EADDRINUSE
//: stdout after the first is gone: ok
//: stdout name: 127.0.0.1:8081 (16 bytes)
//: log 3 move bind
#include "check.h"

int main(void)
{
    int fd = tcp(), on = 1, other = tcp();
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    say("first", bind_ip(fd, "127.0.0.1", 8080));
    say("second", bind_ip(other, "127.0.0.1", 8081));
    close(fd);
    say("after the first is gone", bind_ip(other, "127.0.0.1", 8081));
    say_name("name", other);
}
