// Binds again and again until SIGTERM comes, then says how often it did. After
// SIGUSR1 it makes more binds than a run has room for records, without a pause,
// and says so.
//: driven
#include "check.h"

enum { MANY = 5000 };

static volatile sig_atomic_t stop, hurry;

static void on_term(int signal)
{
    (void)signal;
    stop = 1;
}

static void on_usr1(int signal)
{
    (void)signal;
    hurry = MANY;
}

int main(void)
{
    int binds = 0;
    signal(SIGTERM, on_term);
    signal(SIGUSR1, on_usr1);
    printf("ready\n");
    fflush(stdout);
    while (!stop) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        close(fd);
        binds++;
        if (hurry == 0) {
            usleep(200);
        } else if (--hurry == 0) {
            printf("many\n");
            fflush(stdout);
        }
    }
    printf("%d binds %d\n", getpid(), binds);
}
