// What is closed makes room in the run's table: more sockets come and go than
// fit into it, beside one that stays.
//: unemulated the emulator has no NETLINK_SOCK_DIAG
//: case bind
//: rule move bind tcp 127.0.0.9:* to 127.0.0.1:*
//: same
//: case connect
//: rule move connect udp 127.0.0.8:9301 to 127.0.0.1:9302
//: same
#include "check.h"

int main(void)
{
    int kept = tcp(), wrong = 0, refused = 0;
    must(bind_ip(kept, "127.0.0.9", 0));
    struct address before = {.length = sizeof before.storage}, name;
    must(getsockname(kept, &before.any, &before.length));
    must(listen(kept, 1));
    for (int i = 0; i < 20000; i++) {
        int bound = tcp(), sender = udp();
        if (bind_ip(bound, "127.0.0.9", 0) < 0 || connect_ip(sender, "127.0.0.8", 9301) < 0)
            refused++;
        name.length = sizeof name.storage;
        must(getpeername(sender, &name.any, &name.length));
        wrong += name.in.sin_addr.s_addr != inet_addr("127.0.0.8") || ntohs(name.in.sin_port) != 9301;
        name.length = sizeof name.storage;
        must(getsockname(bound, &name.any, &name.length));
        wrong += name.in.sin_addr.s_addr != inet_addr("127.0.0.9");
        close(bound);
        close(sender);
    }
    say_number("refused", refused);
    say_number("wrong names", wrong);
    name.length = sizeof name.storage;
    must(getsockname(kept, &name.any, &name.length));
    printf("kept: %s\n", memcmp(&name.in, &before.in, sizeof name.in) ? "another name" : "the same");
}
