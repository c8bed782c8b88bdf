// Says how often it will bind, closes every descriptor, and binds.
//: driven
#include "check.h"

enum { BINDS = 500 };

int main(void)
{
    printf("%d binds %d\n", getpid(), BINDS);
    fflush(stdout);
    closefrom(0);
    for (int n = 0; n < BINDS; n++) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        closefrom(0);
    }
}
