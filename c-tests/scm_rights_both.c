// Sockets go both ways over a Unix socket: a bound one to the child, which
// finds its name and listens on it; an unbound one to the parent, which binds.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: same
//: log 1 move bind
//: case deny
//: rule deny bind tcp *:8081
//: stdout bind: ok
//: stdout name in the child: 127.0.0.1:8080 (16 bytes)
//: stdout second bind in the child: EINVAL
//: stdout listen in the child: ok
//: stdout bind of the child's: EACCES
//: stdout name: 127.0.0.1:8080 (16 bytes)
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t child = must(fork());
    if (child == 0) {
        int fd = receive_fd(pair[1]);
        say_name("name in the child", fd);
        say("second bind in the child", bind_ip(fd, "127.0.0.1", 8082));
        say("listen in the child", listen(fd, 1));
        send_fd(pair[1], tcp());
        _exit(0);
    }
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    send_fd(pair[0], fd);
    int other = receive_fd(pair[0]);
    wait_for(child);
    say("bind of the child's", bind_ip(other, "127.0.0.1", 8081));
    say_name("name", fd);
}
