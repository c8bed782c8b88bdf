// bind() by syscall(), as some runtimes do.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: stdout name: 0.0.0.0:0 (16 bytes)
//: log 1 deny bind
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: same
//: log 1 move bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    struct address a = ip("127.0.0.1", 8080);
    say("bind", syscall(SYS_bind, fd, &a.any, a.length));
    say_name("name", fd);
}
