// A thread is cancelled while it waits in accept(), recvmsg() or connect();
// its cleanup runs, and everything goes on.
//: case deny
//: rule deny bind tcp *:9
//: same
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: same
#include "check.h"

static int listener;
static struct address full;
static volatile pid_t waiting;

static void fill(void)
{
    int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
    full.un.sun_family = AF_UNIX;
    memcpy(full.un.sun_path, "\0full", 5);
    full.length = offsetof(struct sockaddr_un, sun_path) + 5;
    must(bind(fd, &full.any, full.length));
    must(listen(fd, 0));
    must(connect(socket(AF_UNIX, SOCK_STREAM, 0), &full.any, full.length));
}

static void cleanup(void *unused)
{
    (void)unused;
    say("cleanup", 0);
}

static void *waiter(void *arg)
{
    pthread_cleanup_push(cleanup, NULL);
    struct address a = {.length = sizeof a.storage};
    char byte;
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    waiting = gettid();
    switch (*(char *)arg) {
    case 'a': accept(listener, &a.any, &a.length); break;
    case '4': accept4(listener, NULL, NULL, 0); break;
    case 'm': {
        int fd = udp();
        must(bind_ip(fd, "127.0.0.1", 0));
        recvmsg(fd, &m, 0);
        break;
    }
    case 'c': {
        // A full queue: the kernel lets the next one wait.
        int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
        connect(fd, &full.any, full.length);
    }
    }
    pthread_cleanup_pop(0);
    return NULL;
}

int main(void)
{
    listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 8080));
    must(listen(listener, 1));
    fill();
    for (const char *call = "a4mca"; *call; call++) {
        pthread_t thread;
        waiting = 0;
        must(pthread_create(&thread, NULL, waiter, (void *)call) ? -1 : 0);
        wait_until_asleep(&waiting);
        pthread_cancel(thread);
        void *result;
        pthread_join(thread, &result);
        printf("cancelled: %s\n", result == PTHREAD_CANCELED ? "yes" : "no");
        say("bind", bind_ip(tcp(), "127.0.0.1", 0));
    }
}
