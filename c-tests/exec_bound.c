// A bound socket is inherited over exec: it has its name, and cannot be bound
// again.
//: unfiltered starts a program, in which the library starts too
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: same
//: log 1 move bind
#include "check.h"

int main(int argc, char **argv)
{
    if (argc == 1) {
        int fd = tcp();
        say("bind", bind_ip(fd, "127.0.0.1", 8080));
        must(dup2(fd, 10));
        execl("/proc/self/exe", argv[0], "again", NULL);
        must(-1);
    }
    say_name("name after exec", 10);
    say("second bind", bind_ip(10, "127.0.0.1", 8082));
    say("listen", listen(10, 1));
    say_name("name of the listener", 10);
}
