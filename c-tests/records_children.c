// A thousand children, each of which binds a hundred times. Says for each how
// many.
//: driven
#include "check.h"

enum { CHILDREN = 1000, BINDS = 100, AT_ONCE = 10 };

int main(void)
{
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = must(fork());
        if (child == 0) {
            for (int n = 0; n < BINDS; n++) {
                int fd = tcp();
                must(bind_ip(fd, "127.0.0.1", 0));
                close(fd);
            }
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
