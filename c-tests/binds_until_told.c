// Binds again and again until SIGTERM comes, then says how often it did.
//: driven
#include "check.h"

static volatile sig_atomic_t stop;

static void on_term(int signal)
{
    (void)signal;
    stop = 1;
}

int main(void)
{
    int binds = 0;
    signal(SIGTERM, on_term);
    printf("ready\n");
    fflush(stdout);
    while (!stop) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        close(fd);
        binds++;
        usleep(200);
    }
    printf("%d binds %d\n", getpid(), binds);
}
