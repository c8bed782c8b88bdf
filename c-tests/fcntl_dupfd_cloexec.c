// fcntl(F_DUPFD_CLOEXEC), as Python and systemd duplicate descriptors.
//: case deny
//: rule deny bind tcp *:8080
//: stdout flags: 1
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int copy = must(fcntl(tcp(), F_DUPFD_CLOEXEC, 100));
    say_number("flags", fcntl(copy, F_GETFD));
    say("bind", bind_ip(copy, "127.0.0.1", 8080));
}
