// A socket is registered with epoll before it is bound, and moved to a Unix
// socket by the bind: the registration fires all the same.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: args $DIR/s
//: same
//: log 1 move bind
//: case move to a port
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080
//: same
#include "check.h"
#include <sys/epoll.h>

int main(int argc, char **argv)
{
    int poller = must(epoll_create1(EPOLL_CLOEXEC));
    int listener = tcp();
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123456789a};
    say("register", epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event));
    say("bind", bind_ip(listener, "127.0.0.1", 8080));
    say("register again", epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event));
    say("listen", listen(listener, 5));
    client_of(8080, argc > 1 ? argv[1] : NULL);
    event.data.u64 = 0;
    say_number("ready", epoll_wait(poller, &event, 1, 10000));
    say_number("data", (long)event.data.u64);
    say("accept", accept(listener, NULL, NULL));
    event.events = EPOLLIN | EPOLLET;
    say("modify", epoll_ctl(poller, EPOLL_CTL_MOD, listener, &event));
    client_of(8080, argc > 1 ? argv[1] : NULL);
    say_number("ready", epoll_wait(poller, &event, 1, 10000));
    say("unregister", epoll_ctl(poller, EPOLL_CTL_DEL, listener, NULL));
}
