// A server that shuts itself up in an empty directory: the rules hold there,
// in its children as well.
//: user root
//: case deny
//: unwritten 6
//: rule deny bind tcp *:8080
//: rule move bind tcp *:8081 to loopback:18081
//: stdout bind: EACCES
//: stdout in a child: EACCES
//: stdout moved: ok
//: stdout name: 127.0.0.1:8081 (16 bytes)
#include "check.h"

int main(void)
{
    must(mkdir("empty", 0755));
    must(chroot("empty"));
    must(chdir("/"));
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    close(fd);
    pid_t child = must(fork());
    if (child == 0) {
        say("in a child", bind_ip(tcp(), "127.0.0.1", 8080));
        _exit(0);
    }
    wait_for(child);
    fd = tcp();
    say("moved", bind_ip(fd, "127.0.0.1", 8081));
    say_name("name", fd);
}
