// A bound socket over two execs, with `env -i` between them, which leaves
// nothing of the environment.
//: unfiltered starts a program, in which the library starts too
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: rule deny bind tcp *:8081
//: stdout bind: ok
//: stdout name after env -i: 127.0.0.1:8080 (16 bytes)
//: stdout another bind: EACCES
//: log 1 move bind
//: log 1 deny bind
//: only run
#include "check.h"

int main(int argc, char **argv)
{
    if (argc == 1) {
        int fd = tcp();
        say("bind", bind_ip(fd, "127.0.0.1", 8080));
        must(dup2(fd, 10));
        execl("/usr/bin/env", "env", "-i", argv[0], "again", NULL);
        must(-1);
    }
    say_name("name after env -i", 10);
    say("another bind", bind_ip(tcp(), "127.0.0.1", 8081));
}
