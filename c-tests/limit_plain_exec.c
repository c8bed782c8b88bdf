// Limit: under a plain preload a socket that became a Unix socket keeps its
// name over exec, but not the options of the family that it pretends to be.
// Under the launcher it keeps both.
//: unfiltered starts a program, in which the library starts too
//: case preload
//: only preload
//: rule move bind tcp *:8080 to unix:$DIR/s
//: stdout bind: ok
//: stdout name: 127.0.0.1:8080 (16 bytes)
//: stdout TCP_NODELAY 0
//: case run
//: only run
//: rule move bind tcp *:8080 to unix:$DIR/s
//: stdout bind: ok
//: stdout name: 127.0.0.1:8080 (16 bytes)
//: stdout TCP_NODELAY 1
#include "check.h"
#include <netinet/tcp.h>

int main(int argc, char **argv)
{
    int on = 1;
    socklen_t length = sizeof on;

    if (argc > 2) {
        int fd = atoi(argv[2]);
        say_name("name", fd);
        must(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &length));
        printf("TCP_NODELAY %d\n", on);
        return 0;
    }
    int fd = tcp();
    char number[12];
    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    snprintf(number, sizeof number, "%d", fd);
    fflush(stdout);
    execl(argv[0], argv[0], "again", number, NULL);
}
