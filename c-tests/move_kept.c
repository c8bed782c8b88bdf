// A moved socket keeps its virtual address over dup, fork, exec and fd passing.
//: unfiltered starts a program, in which the library starts too
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: same
//: log 1 move bind
//: case port only
//: rule move bind tcp *:8080 to *:18080
//: same
//: case to a unix socket
//: rule move bind tcp *:8080 to unix:$DIR/s
//: same
//: log 1 move bind
#include "check.h"

int main(int argc, char **argv)
{
    if (argc > 1) {
        say_name("after exec", 10);
        say_name("after exec, a duplicate", dup(10));
        return 0;
    }
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    say_name("dup", dup(fd));
    say_name("dup2", must(dup2(fd, 40)));
    say_name("F_DUPFD", must(fcntl(fd, F_DUPFD, 50)));
    pid_t child = must(fork());
    if (child == 0) {
        say_name("fork", fd);
        say("fork, second bind", bind_ip(fd, "127.0.0.1", 8081));
        _exit(0);
    }
    wait_for(child);
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    send_fd(pair[0], fd);
    int passed = receive_fd(pair[1]);
    say_name("passed", passed);
    child = must(fork());
    if (child == 0) {
        int here = receive_fd(pair[1]);
        say_name("passed to a child", here);
        say("listen there", listen(here, 1));
        _exit(0);
    }
    send_fd(pair[0], fd);
    wait_for(child);
    must(dup2(passed, 10));
    close(fd);
    execl("/proc/self/exe", argv[0], "again", NULL);
}
