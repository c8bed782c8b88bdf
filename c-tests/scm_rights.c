// A socket received over a Unix socket is bound by the receiver.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind of what was received: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t child = must(fork());
    if (child == 0) {
        send_fd(pair[1], tcp());
        _exit(0);
    }
    int fd = receive_fd(pair[0]);
    wait_for(child);
    say("bind of what was received", bind_ip(fd, "127.0.0.1", 8080));
}
