// Binds, says how often, and is killed on the spot.
//: driven
#include "check.h"

enum { BINDS = 500 };

int main(void)
{
    printf("%d binds %d\n", getpid(), BINDS);
    fflush(stdout);
    for (int n = 0; n < BINDS; n++) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        close(fd);
    }
    raise(SIGKILL);
}
