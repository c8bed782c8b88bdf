// Listeners at one real port that have no room for a tag (as none has before
// Linux 6.3): connections are known by the real address.
//: ruled connects to the real port
//: case move
//: rule move bind tcp 127.0.0.1:9001 to 127.0.0.1:18080
//: rule move bind tcp 127.0.0.2:9002 to 127.0.0.2:18080
//: rule move bind tcp 127.0.0.3:9003 to 127.0.0.3:18080
//: rule move bind tcp 127.0.0.4:9004 to 127.0.0.4:18080
//: stdout accepted: 127.0.0.4:9004 (16 bytes)
//: stdout accepted: 127.0.0.3:9003 (16 bytes)
//: stdout accepted: 127.0.0.2:9002 (16 bytes)
//: stdout accepted: 127.0.0.1:9001 (16 bytes)
//: log 4 move bind
#include "check.h"

static int server(const char *host, int port)
{
    unsigned range = 40000 | 50000u << 16;
    int fd = tcp(), on = 1;
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    // Where the kernel has it.
    setsockopt(fd, IPPROTO_IP, 51, &range, sizeof range);
    must(bind_ip(fd, host, port));
    must(listen(fd, 1));
    return fd;
}

static void serve(int listener, const char *host)
{
    must(connect_ip(tcp(), host, 18080));
    say_name("accepted", must(accept(listener, NULL, NULL)));
    close(listener);
}

int main(void)
{
    const char *hosts[] = {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"};
    int listeners[COUNT(hosts)];
    for (int i = 0; i < 4; i++)
        listeners[i] = server(hosts[i], 9001 + i);
    for (int i = 3; i >= 0; i--)
        serve(listeners[i], hosts[i]);
}
