// Limit: a datagram socket is not moved to a Unix socket. The bind is refused,
// and the record says why.
//: case move
//: rule move bind udp *:8080 to unix:$DIR/s
//: stdout bind: EOPNOTSUPP
//: stdout name: 0.0.0.0:0 (16 bytes)
//: log 1 move bind
#include "check.h"

int main(void)
{
    int fd = udp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    say_name("name", fd);
}
