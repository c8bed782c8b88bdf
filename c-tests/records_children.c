// A program that has bound, and a thousand children of it, each of which binds
// a hundred times. Says for each how many.
//: driven
#include "check.h"

enum { CHILDREN = 1000, BINDS = 100, AT_ONCE = 10 };

static void binds(int count)
{
    for (int n = 0; n < count; n++) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        close(fd);
    }
}

int main(void)
{
    binds(1);
    printf("%d binds 1\n", getpid());
    fflush(stdout);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = must(fork());
        if (child == 0) {
            binds(BINDS);
            _exit(0);
        }
        printf("%d binds %d\n", child, BINDS);
        fflush(stdout);
        if (i >= AT_ONCE)
            wait_for(-1);
    }
    for (int i = 0; i < AT_ONCE; i++)
        wait_for(-1);
}
