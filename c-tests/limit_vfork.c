// Limit: a vfork child has its parent's memory, and with it its parent's
// number in the log, until it execs.
//: driven
#include "check.h"

int main(void)
{
    int fd = tcp();
    pid_t child = vfork();

    if (child == 0) {
        bind_ip(fd, "127.0.0.1", 8080);
        _exit(0);
    }
    wait_for(child);
    printf("%d\n", getpid());
}
