// A socket with many descriptors and many epoll registrations becomes a Unix
// socket: each descriptor is the new one, each registration wakes.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: args $DIR/s
//: same
//: log 1 move bind
#include "check.h"
#include <sys/epoll.h>

enum { MANY = 40 };

int main(int argc, char **argv)
{
    int fd = tcp(), copies[MANY], pollers[MANY], woke = 0, same = 0, on = 1;
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    for (int i = 0; i < MANY; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1000 + i};
        copies[i] = must(dup(fd));
        pollers[i] = must(epoll_create1(0));
        must(epoll_ctl(pollers[i], EPOLL_CTL_ADD, copies[i], &event));
    }
    say("bind", bind_ip(copies[MANY - 1], "127.0.0.1", 8080));
    say("listen", listen(fd, 5));
    for (int i = 0; i < MANY; i++)
        same += port_of(copies[i]) == 8080;
    say_number("descriptors at the port", same);
    client_of(8080, argc > 1 ? argv[1] : NULL);
    for (int i = 0; i < MANY; i++) {
        struct epoll_event event = {0};
        // The registration of an unbound socket may have a hang-up to tell first.
        do
            must(epoll_wait(pollers[i], &event, 1, -1));
        while (event.events & EPOLLHUP);
        woke += event.data.u64 == (uint64_t)(1000 + i) && event.events & EPOLLIN;
    }
    say_number("registrations that woke", woke);
    say("one is deleted", epoll_ctl(pollers[0], EPOLL_CTL_DEL, copies[0], NULL));
}
