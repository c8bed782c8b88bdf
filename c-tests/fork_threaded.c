// Children forked from a program whose threads are always inside a hook.
//: unemulated a child waits for QEMU's own lock over path names, if a thread was in open(2) as it was forked
//: user root
//: case deny
//: rule deny bind tcp 127.0.0.3:*
//: same
//: case deny in the children
//: rule deny bind tcp 127.0.0.2:*
//: stdout children that bound: 0
//: log 1000 deny bind
#include "check.h"

enum { THREADS = 4, CHILDREN = 1000, AT_A_TIME = 100 };

static volatile int stop;

static int work(const char *host)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int result = bind_ip(fd, host, 0);
    return fd < 0 || result < 0 || close(fd) < 0;
}

static void *thread(void *unused)
{
    (void)unused;
    while (!stop)
        work("127.0.0.1");
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        must(pthread_create(&threads[i], NULL, thread, NULL) ? -1 : 0);
    int good = 0;
    // Not one after the other: on a busy machine each child waits for its turn,
    // and its parent for the next.
    for (int i = 0; i < CHILDREN; i += AT_A_TIME) {
        pid_t children[AT_A_TIME];
        for (int n = 0; n < AT_A_TIME; n++) {
            children[n] = must(fork());
            if (children[n] == 0)
                _exit(work("127.0.0.2"));
        }
        for (int n = 0; n < AT_A_TIME; n++) {
            int status;
            must(waitpid(children[n], &status, 0));
            good += status == 0;
        }
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    say_number("children that bound", good);
}
