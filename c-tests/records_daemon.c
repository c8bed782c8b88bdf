// Becomes a daemon as daemons do, waits until it is an orphan, binds, and says
// how often and whose child it is.
//: driven
#include "check.h"

enum { BINDS = 500 };

int main(void)
{
    int out = must(fcntl(1, F_DUPFD, 20));
    pid_t first = getpid(), parent;
    if (must(fork()))
        return 0;
    must(setsid());
    parent = getpid();
    if (must(fork()))
        _exit(0);
    must(chdir("/"));
    close_range(0, 2, 0);
    must(open("/dev/null", O_RDWR));
    must(dup(0));
    must(dup(0));
    // Whoever started the first of us has seen it end.
    while (getppid() == parent || kill(first, 0) == 0)
        usleep(1000);
    for (int n = 0; n < BINDS; n++) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        close(fd);
    }
    dprintf(out, "%d binds %d\nparent %d\n", getpid(), BINDS, getppid());
}
