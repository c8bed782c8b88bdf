// After a bind that fails, the next one is judged like the first.
//: case deny
//: rule deny bind tcp *:8080
//: stdout not an address of this host: EADDRNOTAVAIL
//: stdout forbidden: EACCES
//: stdout forbidden again: EACCES
//: stdout allowed: ok
//: stdout name: 127.0.0.1:8081 (16 bytes)
//: log 2 deny bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("not an address of this host", bind_ip(fd, "192.0.2.1", 9000));
    say("forbidden", bind_ip(fd, "127.0.0.1", 8080));
    say("forbidden again", bind_ip(fd, "127.0.0.1", 8080));
    say("allowed", bind_ip(fd, "127.0.0.1", 8081));
    say_name("name", fd);
}
