// Becomes a daemon as daemons do, waits until it is an orphan, binds, and says
// how often and whose child it is.
//: driven
#include "check.h"

enum { BINDS = 500 };

int main(void)
{
    int out = must(fcntl(1, F_DUPFD, 20));
    if (must(fork()))
        return 0;
    must(setsid());
    if (must(fork()))
        _exit(0);
    must(chdir("/"));
    close_range(0, 2, 0);
    must(open("/dev/null", O_RDWR));
    must(dup(0));
    must(dup(0));
    while (getppid() != 1)
        usleep(1000);
    usleep(100000); // whoever started us has long seen our parent end
    for (int n = 0; n < BINDS; n++) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        close(fd);
    }
    dprintf(out, "%d binds %d\nparent %d\n", getpid(), BINDS, getppid());
}
