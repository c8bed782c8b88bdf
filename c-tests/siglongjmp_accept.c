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

static sigjmp_buf out;
static pthread_t main_thread;
static volatile pid_t waiting;
static volatile int left;

static void on_alarm(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

// A signal each time that the main program waits.
static void *knock(void *unused)
{
    for (int was = 0; was < 50; was++) {
        while (left != was)
            usleep(100);
        wait_until_asleep(&waiting);
        pthread_kill(main_thread, SIGALRM);
    }
    return unused;
}

int main(int argc, char **argv)
{
    int listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 8080));
    must(listen(listener, 1));
    signal(SIGALRM, on_alarm);
    main_thread = pthread_self();
    waiting = getpid();
    pthread_t knocker;
    must(-pthread_create(&knocker, NULL, knock, NULL));
    for (volatile int i = 0; i < 50; i++) {
        if (sigsetjmp(out, 1) == 0)
            accept(listener, NULL, NULL);
        else
            left++;
    }
    must(-pthread_join(knocker, NULL));
    say_number("times left", left);
    client_of(8080, argc > 1 ? argv[1] : NULL);
    say("accept", accept(listener, NULL, NULL));
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8081));
    say_name("name", listener);
}
