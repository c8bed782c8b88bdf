// What a deny of one address stops: every socket that would receive for it.
//: case an address
//: rule deny bind tcp 127.0.0.1:8080
//: stdout 127.0.0.1: EACCES
//: stdout 127.0.0.2: ok
//: stdout 0.0.0.0: EACCES
//: stdout ::: EACCES
//: stdout ::1: ok
//: stdout ::ffff:127.0.0.1: EACCES
//: stdout :: for IPv6 only: ok
//: stdout another port: ok
//: log 4 deny bind
//: case exactly
//: rule deny bind tcp exactly [::]:*
//: stdout 127.0.0.1: ok
//: stdout 127.0.0.2: ok
//: stdout 0.0.0.0: ok
//: stdout ::: EACCES
//: stdout ::1: ok
//: stdout ::ffff:127.0.0.1: ok
//: stdout :: for IPv6 only: EACCES
//: stdout another port: ok
#include "check.h"

static void try(int family, const char *host)
{
    int fd = must(socket(family, SOCK_STREAM, 0));
    say(host, bind_ip(fd, host, 8080));
    close(fd);
}

int main(void)
{
    try(AF_INET, "127.0.0.1");
    try(AF_INET, "127.0.0.2");
    try(AF_INET, "0.0.0.0");
    try(AF_INET6, "::");
    try(AF_INET6, "::1");
    try(AF_INET6, "::ffff:127.0.0.1");
    int only = tcp6(), yes = 1;
    must(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes));
    say(":: for IPv6 only", bind_ip(only, "::", 8080));
    close(only);
    say("another port", bind_ip(tcp(), "0.0.0.0", 8081));
}
