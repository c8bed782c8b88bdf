// A TCP client that is led to a Unix socket: it thinks that it talks to the
// address that it called.
//: case move
//: rule move connect tcp *:6379 to unix:$DIR/s.sock
//: args $DIR/s.sock
//: same
//: log 4 move connect
#include "check.h"
#include <sys/epoll.h>

static int serve(const char *where)
{
    struct address a = ip("127.0.0.1", 6379);
    if (where) {
        memset(&a, 0, sizeof a);
        a.un.sun_family = AF_UNIX;
        strcpy(a.un.sun_path, where);
        a.length = sizeof a.un;
    }
    int on = 1, fd = must(socket(a.any.sa_family, SOCK_STREAM, 0));
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    must(bind(fd, &a.any, a.length));
    must(listen(fd, 5));
    return fd;
}

static void say_what_it_is(int fd)
{
    struct address a = {.length = sizeof a.storage};
    int n = 0;
    socklen_t length = sizeof n;
    must(getpeername(fd, &a.any, &a.length));
    printf("peer: %s (%u bytes)\n", text(&a), a.length);
    a.length = sizeof a.storage;
    must(getsockname(fd, &a.any, &a.length));
    printf("own name: family %d, on loopback: %s, a port: %s\n", a.any.sa_family,
           a.in.sin_addr.s_addr == htonl(INADDR_LOOPBACK) ? "yes" : "no", a.in.sin_port ? "yes" : "no");
    must(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &n, &length));
    say_number("SO_DOMAIN", n);
    must(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &n, &length));
    say_number("SO_PROTOCOL", n);
    must(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &n, &length));
    say_number("TCP_NODELAY", n);
}

int main(int argc, char **argv)
{
    const char *where = argc > 1 ? argv[argc - 1] : NULL;
    int fd = tcp();
    say("nobody is there", connect_ip(fd, "127.0.0.1", 6379));
    int server = serve(where && strstr(where, "s.sock") ? where : NULL), on = 1;
    fd = tcp();
    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    say("connect", connect_ip(fd, "127.0.0.1", 6379));
    int accepted = must(accept(server, NULL, NULL));
    say_what_it_is(fd);
    char got[6] = "";
    must(write(accepted, "hello", 5));
    must(read(fd, got, 5));
    printf("read: %s\n", got);
    say("connect again", connect_ip(fd, "127.0.0.1", 6379));

    // A client that does not wait, watched by epoll from the start.
    fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int copy = must(dup(fd)), poller = must(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = 77};
    must(epoll_ctl(poller, EPOLL_CTL_ADD, copy, &event));
    int result = connect_ip(fd, "127.0.0.1", 6379);
    say("without waiting", result < 0 && errno == EINPROGRESS ? 0 : result);
    // A socket without a connection is hung up.
    do
        must(epoll_wait(poller, &event, 1, -1));
    while (event.events & EPOLLHUP);
    printf("writable: %s\n", event.data.u64 == 77 && event.events & EPOLLOUT ? "yes" : "no");
    accepted = must(accept(server, NULL, NULL));
    must(write(copy, "again", 5));
    must(read(accepted, got, 5));
    printf("read: %s\n", got);
}
