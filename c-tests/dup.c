// A duplicate made by dup() is the same socket.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: stdout the duplicate's name: 0.0.0.0:0 (16 bytes)
//: stdout listen on the original: ok
//: log 1 deny bind
//: record 1 {"call":"bind","asked":"127.0.0.1:8080","errno":"EACCES","identity":"cookie","rule":{"number":1}}
#include "check.h"

int main(void)
{
    int fd = tcp();
    int copy = dup(fd);
    close(dup(fd));
    say("bind", bind_ip(copy, "127.0.0.1", 8080));
    say_name("the duplicate's name", copy);
    close(copy);
    say("listen on the original", listen(fd, 1));
}
