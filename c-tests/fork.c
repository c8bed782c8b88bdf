// A child binds the socket that its parent made; the parent sees it bound.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind in the child: EACCES
//: stdout name in the parent: 0.0.0.0:0 (16 bytes)
//: stdout bind in the parent: EACCES
//: log 2 deny bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    pid_t child = must(fork());
    if (child == 0) {
        say("bind in the child", bind_ip(fd, "127.0.0.1", 8080));
        _exit(0);
    }
    wait_for(child);
    say_name("name in the parent", fd);
    say("bind in the parent", bind_ip(fd, "127.0.0.1", 8080));
}
