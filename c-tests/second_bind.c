// A socket that has its port cannot be bound again; a rule that refuses the
// second address is asked before the kernel is.
//: case deny
//: rule deny bind tcp *:8081
//: stdout first: ok
//: stdout second: EACCES
//: stdout the same again: EINVAL
//: stdout name: 127.0.0.1:8080 (16 bytes)
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("first", bind_ip(fd, "127.0.0.1", 8080));
    say("second", bind_ip(fd, "127.0.0.1", 8081));
    say("the same again", bind_ip(fd, "127.0.0.1", 8080));
    say_name("name", fd);
}
