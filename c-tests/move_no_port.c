// A socket that is bound without a port (IP_BIND_ADDRESS_NO_PORT) gets one when
// it connects: from the whole range, and its name says both.
//: unemulated QEMU does not pass IP_BIND_ADDRESS_NO_PORT on
//: case move
//: rule move bind tcp 127.0.0.9:* to 127.0.0.1:*
//: same
#include "check.h"

int main(void)
{
    int server = tcp(), on = 1, refused = 0, wrong = 0;
    must(bind_ip(server, "127.0.0.1", 0));
    must(listen(server, 200));
    for (int i = 0; i < 200; i++) {
        int fd = tcp();
        must(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on));
        must(bind_ip(fd, "127.0.0.9", 0));
        wrong += port_of(fd) != 0;
        refused += connect_ip(fd, "127.0.0.1", port_of(server)) < 0;
        struct address a = {.length = sizeof a.storage};
        must(getsockname(fd, &a.any, &a.length));
        wrong += a.in.sin_addr.s_addr != inet_addr("127.0.0.9") || a.in.sin_port == 0;
    }
    say_number("refused", refused);
    say_number("wrong names", wrong);
}
