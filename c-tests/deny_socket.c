// socket() and socketpair() are refused by kind; numbers are not used up.
//: case deny
//: rule deny socket udp
//: rule deny socket netlink with EPERM
//: rule deny socket unix with EAFNOSUPPORT
//: stdout tcp: ok
//: stdout udp: EACCES
//: stdout udp over IPv6: EACCES
//: stdout netlink: EPERM
//: stdout unix: EAFNOSUPPORT
//: stdout pair: EAFNOSUPPORT
//: stdout no such family: EAFNOSUPPORT
//: stdout next number: 4
//: log 4 deny socket
//: log 1 deny socketpair
//: log 2 allow socket
#include "check.h"
#include <linux/netlink.h>

int main(void)
{
    int pair[2];
    say("tcp", socket(AF_INET, SOCK_STREAM, 0));
    int others[4] = {
        say("udp", socket(AF_INET, SOCK_DGRAM, 0)),
        say("udp over IPv6", socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP)),
        say("netlink", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)),
        say("unix", socket(AF_UNIX, SOCK_STREAM, 0)),
    };
    for (unsigned i = 0; i < COUNT(others); i++)
        if (others[i] >= 0)
            close(others[i]);
    if (say("pair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) == 0)
        close_range(4, 5, 0);
    say("no such family", socket(99, SOCK_STREAM, 0));
    say_number("next number", dup(0));
}
