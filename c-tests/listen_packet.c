// A packet socket cannot listen, but `listen` rules come before that; its name
// is shorter than the address that bind() wants.
//: user root
//: case refused
//: rule deny listen packet *
//: stdout bind: ok
//: stdout name: 18
//: stdout listen: EACCES
//: stdout name: 12
//: stdout listen: EACCES
//: log 1 allow bind
//: log 2 deny listen
//: case allowed
//: rule deny listen packet * for /none
//: stdout bind: ok
//: stdout name: 18
//: stdout listen: EOPNOTSUPP
//: stdout name: 12
//: stdout listen: EOPNOTSUPP
//: log 2 allow listen
#include "check.h"
#include <linux/if_packet.h>
#include <net/if.h>

static void listen_on(int fd)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    must(getsockname(fd, (struct sockaddr *)&name, &length));
    say_number("name", length);
    say("listen", listen(fd, 5));
}

int main(void)
{
    struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("lo")};
    int bound = must(socket(AF_PACKET, SOCK_RAW, 0));
    say("bind", bind(bound, (struct sockaddr *)&lo, sizeof lo));
    listen_on(bound);
    listen_on(must(socket(AF_PACKET, SOCK_RAW, 0)));
}
