// Rules by the number of an IP protocol, where it has no name in the language.
//: case deny
//: rule deny bind proto 17 *:5001
//: stdout tcp: ok
//: stdout udp: EACCES
//: stdout udp over IPv6: EACCES
//: stdout unix: ok
//: log 2 deny bind
//: case allow
//: rule allow bind proto 6 *:5001
//: rule default deny for bind
//: stdout tcp: ok
//: stdout udp: EACCES
//: stdout udp over IPv6: EACCES
//: stdout unix: EACCES
//: log 1 allow bind
//: log 3 deny bind
//: case socket
//: rule deny socket proto 17
//: stdout tcp: ok
//: stdout udp: EBADF
//: stdout udp over IPv6: EBADF
//: stdout unix: ok
//: log 2 deny socket
#include "check.h"

int main(void)
{
    say("tcp", bind_ip(tcp(), "127.0.0.1", 5001));
    say("udp", bind_ip(socket(AF_INET, SOCK_DGRAM, 0), "127.0.0.1", 5001));
    say("udp over IPv6", bind_ip(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP), "::1", 5001));
    struct address a = {.length = sizeof(sa_family_t)};
    a.any.sa_family = AF_UNIX;
    say("unix", bind(must(socket(AF_UNIX, SOCK_STREAM, 0)), &a.any, a.length));
}
