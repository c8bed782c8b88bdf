// A socket of SOCK_PACKET is bound to a device by name, in an address of
// whatever family: none that could be read, but rules for every address hold,
// in connect() and listen() too, which no packet socket can.
//: user root
//: unlearned a rule for its kind does not hold before the socket is known
//: case packet
//: rule deny bind packet *
//: stdout AF_PACKET: EACCES
//: stdout no such family: EACCES
//: stdout AF_INET: ok
//: stdout listen: EOPNOTSUPP
//: stdout connect: EOPNOTSUPP
//: log 2 deny bind
//: case any
//: rule deny bind any * with EPERM
//: stdout AF_PACKET: EPERM
//: stdout no such family: EPERM
//: stdout AF_INET: EPERM
//: stdout listen: EOPNOTSUPP
//: stdout connect: EOPNOTSUPP
//: log 3 deny bind
//: case default
//: rule default deny
//: stdout AF_PACKET: EACCES
//: stdout no such family: EACCES
//: stdout AF_INET: EACCES
//: stdout listen: EACCES
//: stdout connect: EOPNOTSUPP
//: log 3 deny bind
//: case allowed
//: rule allow bind packet *
//: rule default deny
//: stdout AF_PACKET: ok
//: stdout no such family: ok
//: stdout AF_INET: EACCES
//: stdout listen: EACCES
//: stdout connect: EOPNOTSUPP
//: log 2 allow bind
//: case hidden
//: rule hide bind any *
//: stdout AF_PACKET: EAFNOSUPPORT
//: stdout no such family: EAFNOSUPPORT
//: stdout AF_INET: EAFNOSUPPORT
//: stdout listen: EOPNOTSUPP
//: stdout connect: EOPNOTSUPP
//: case of others
//: rule deny bind {inet,unix} *
//: rule deny bind any 10.0.0.0/8:*
//: rule deny listen inet *
//: rule deny connect any 10.0.0.0/8:*
//: same
//: case listens
//: rule deny listen packet *
//: stdout AF_PACKET: ok
//: stdout no such family: ok
//: stdout AF_INET: ok
//: stdout listen: EACCES
//: stdout connect: EOPNOTSUPP
//: log 1 deny listen
//: case connects
//: rule deny connect any *
//: stdout AF_PACKET: ok
//: stdout no such family: ok
//: stdout AF_INET: ok
//: stdout listen: EOPNOTSUPP
//: stdout connect: EACCES
//: log 1 deny connect
#include "check.h"

static void bind_as(const char *what, sa_family_t family)
{
    struct sockaddr lo = {.sa_family = family, .sa_data = "lo"};
    int fd = must(socket(AF_PACKET, SOCK_PACKET, 0));
    say(what, bind(fd, &lo, sizeof lo));
    must(close(fd));
}

int main(void)
{
    bind_as("AF_PACKET", AF_PACKET);
    bind_as("no such family", 77);
    bind_as("AF_INET", AF_INET);
    struct sockaddr lo = {.sa_family = AF_PACKET, .sa_data = "lo"};
    int fd = must(socket(AF_PACKET, SOCK_PACKET, 0));
    say("listen", listen(fd, 5));
    say("connect", connect(fd, &lo, sizeof lo));
}
