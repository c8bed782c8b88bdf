// A moved socket has its port: it cannot be bound again, to the same address,
// another one, or the real one.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: same
//: log some move bind
//: case to a unix socket
//: rule move bind tcp *:8080 to unix:$DIR/s
//: same
//: log some move bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    say("again", bind_ip(fd, "127.0.0.1", 8080));
    say("elsewhere", bind_ip(fd, "127.0.0.1", 8081));
    say("where it really is", bind_ip(fd, "127.0.0.1", 18080));
    say("any port", bind_ip(fd, "127.0.0.1", 0));
    say_name("name", fd);
}
