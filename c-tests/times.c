// A rule that holds a number of times: per run, whoever calls.
//: case twice
//: rule deny bind tcp *:8080 with EADDRINUSE times 2
//: stdout bind: EADDRINUSE
//: stdout bind in a child: EADDRINUSE
//: stdout bind: ok
//: log 2 deny bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    pid_t child = must(fork());
    if (child == 0) {
        say("bind in a child", bind_ip(fd, "127.0.0.1", 8080));
        _exit(0);
    }
    wait_for(child);
    if (port_of(fd) == 0)
        say("bind", bind_ip(fd, "127.0.0.1", 8080));
}
