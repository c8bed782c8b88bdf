// socket(), bind() and close() from a signal handler that interrupts the same
// calls in the main program, again and again.
//: case deny
//: rule deny bind tcp 127.0.0.3:*
//: same
#include "check.h"
#include <sys/time.h>

enum { ROUNDS = 5000, SIGNALS = 500 };

static volatile sig_atomic_t handled, wrong;

static void work(const char *host)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind_ip(fd, host, 0) < 0 || close(fd) < 0)
        wrong++;
}

static void on_alarm(int signal)
{
    (void)signal;
    int e = errno;
    work("127.0.0.2");
    handled++;
    errno = e;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    must(sigaction(SIGALRM, &action, NULL));
    int sent = 0;
    for (int i = 0; i < ROUNDS || handled < SIGNALS; i++) {
        // One signal at a time, and a round between any two of them: the main
        // program goes on however slow the machine is.
        if (handled == sent) {
            sent++;
            must(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1 + i * 7 % 100}}, NULL));
        }
        work("127.0.0.1");
    }
    must(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL));
    say_number("wrong", wrong);
}
