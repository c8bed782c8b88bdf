// The program's own fork handlers make and bind sockets.
//: case deny
//: rule deny bind tcp 127.0.0.3:*
//: same
#include "check.h"

static int good;

static void handler(void)
{
    int fd = tcp();
    good += bind_ip(fd, "127.0.0.1", 0) == 0;
    close(fd);
}

int main(void)
{
    must(pthread_atfork(handler, handler, handler) ? -1 : 0);
    pid_t child = must(fork());
    if (child == 0) {
        say_number("in the child", good);
        _exit(0);
    }
    wait_for(child);
    say_number("in the parent", good);
}
