// Two listeners are moved onto one real port at different times: sockets that
// the first one accepted go on to say what the first one said.
//: case move
//: needs tags
//: rule move bind tcp *:8080 to loopback:18080
//: rule move bind tcp *:8081 to loopback:18080
//: warns redirects another address to the same target
//: stdout first: ok
//: stdout second: ok
//: stdout accepted by the first: 127.0.0.1:8080 (16 bytes)
//: stdout accepted by the second: 127.0.0.1:8081 (16 bytes)
//: stdout the first, in a child: 127.0.0.1:8080 (16 bytes)
//: stdout the second, in a child: 127.0.0.1:8081 (16 bytes)
//: log 2 move bind
#include "check.h"

static int serve(const char *what, int port)
{
    int listener = tcp(), on = 1;
    must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    say(what, bind_ip(listener, "127.0.0.1", port));
    must(listen(listener, 1));
    struct address real = {.length = sizeof real.storage};
    must(past_libc(SYS_getsockname, listener, (long)&real.any, (long)&real.length));
    must(connect(tcp(), &real.any, real.length));
    int server = must(accept(listener, NULL, NULL));
    close(listener);
    return server;
}

int main(void)
{
    int first = serve("first", 8080);
    int second = serve("second", 8081);
    say_name("accepted by the first", first);
    say_name("accepted by the second", second);
    pid_t child = must(fork());
    if (child == 0) {
        say_name("the first, in a child", first);
        say_name("the second, in a child", second);
        _exit(0);
    }
    wait_for(child);
}
