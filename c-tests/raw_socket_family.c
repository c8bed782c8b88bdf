// A raw IPv4 socket takes the bytes of an address for a sockaddr_in, whatever
// family they name: rules for IPv4 addresses hold.
//: user root
//: case any
//: rule deny bind any *
//: stdout no family: EACCES
//: stdout AF_INET6: EACCES
//: stdout AF_INET: EACCES
//: log 3 deny bind
//: case one address
//: rule deny bind raw 127.0.0.1:*
//: stdout no family: EACCES
//: stdout AF_INET6: EACCES
//: stdout AF_INET: EACCES
//: log 3 deny bind
//: case another address
//: rule deny bind raw 127.0.0.2:*
//: same
//: case allowed
//: rule default deny for bind
//: rule allow bind raw loopback:*
//: same
#include "check.h"

static void bind_as(const char *what, sa_family_t family)
{
    struct sockaddr_in a = {.sin_family = family, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    say(what, bind(fd, (struct sockaddr *)&a, sizeof a));
    must(close(fd));
}

int main(void)
{
    bind_as("no family", AF_UNSPEC);
    bind_as("AF_INET6", AF_INET6);
    bind_as("AF_INET", AF_INET);
}
