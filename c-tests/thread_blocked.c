// One thread waits in accept(); the others go on making and binding sockets.
//: case deny
//: rule deny bind tcp *:9
//: same
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080
//: same
#include "check.h"

static int listener;
static volatile pid_t waiting;

static void *waiter(void *unused)
{
    (void)unused;
    waiting = gettid();
    return (void *)(intptr_t)accept(listener, NULL, NULL);
}

int main(int argc, char **argv)
{
    listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 8080));
    must(listen(listener, 1));
    pthread_t thread;
    must(pthread_create(&thread, NULL, waiter, NULL) ? -1 : 0);
    wait_until_asleep(&waiting);
    int bound = 0;
    for (int i = 0; i < 1000; i++) {
        int fd = tcp();
        bound += bind_ip(fd, "127.0.0.1", 0) == 0;
        close(fd);
    }
    say_number("bound meanwhile", bound);
    client_of(8080, argc > 1 ? argv[1] : NULL);
    void *server;
    pthread_join(thread, &server);
    say_name("accepted", (int)(intptr_t)server);
}
