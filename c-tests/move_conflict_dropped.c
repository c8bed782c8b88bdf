// A server that has given up its privileges cannot bind its real port a second
// time, not even to see whether somebody holds it: what it has stays known.
//: user root
//: unemulated needs a network namespace
//: unfiltered makes a network namespace
//: outside makes a network namespace
//: case move
//: unwritten 2
//: rule move bind tcp *:8080 to loopback:81
//: rule move bind tcp *:8081 to loopback:81
//: warns redirects another address to the same target
//: stdout as root: ok
//: stdout as nobody: EADDRINUSE
//: stdout name: 127.0.0.1:8080 (16 bytes)
#include "check.h"
#include <grp.h>
#include <sched.h>

int main(void)
{
    must(unshare(CLONE_NEWNET));
    must(system("ip link set lo up") ? -1 : 0);
    int fd = tcp();
    say("as root", bind_ip(fd, "127.0.0.1", 8080));
    must(setgroups(0, NULL));
    must(setresgid(65534, 65534, 65534));
    must(setresuid(65534, 65534, 65534));
    say("as nobody", bind_ip(tcp(), "127.0.0.1", 8081));
    say_name("name", fd);
}
