// Another process holds the socket before the bind: it cannot be exchanged
// under that process's feet, so the move is refused.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: stdout bind: EADDRNOTAVAIL
//: stdout name: 0.0.0.0:0 (16 bytes)
//: log some move bind
#include "check.h"

int main(void)
{
    int fd = tcp(), hold[2];
    must(pipe(hold));
    pid_t child = must(fork());
    if (child == 0) {
        char byte;
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) != 0);
    }
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    say_name("name", fd);
    close(hold[1]);
    wait_for(child);
}
