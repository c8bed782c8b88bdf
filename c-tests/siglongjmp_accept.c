// A signal handler leaves a waiting accept() by siglongjmp(); a call that is
// not left finds everything as it was.
//: case deny
//: rule deny bind tcp *:9
//: same
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080
//: same
#include "check.h"
#include <setjmp.h>
#include <sys/time.h>

static sigjmp_buf out;

static void on_alarm(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

int main(int argc, char **argv)
{
    int listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 8080));
    must(listen(listener, 1));
    signal(SIGALRM, on_alarm);
    volatile int left = 0;
    for (volatile int i = 0; i < 50; i++) {
        if (sigsetjmp(out, 1) == 0) {
            setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 2000}}, NULL);
            accept(listener, NULL, NULL);
        } else {
            left++;
        }
    }
    say_number("times left", left);
    client_of(8080, argc > 1 ? argv[1] : NULL);
    say("accept", accept(listener, NULL, NULL));
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8081));
    say_name("name", listener);
}
