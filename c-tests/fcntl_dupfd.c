// fcntl(F_DUPFD) makes a duplicate at a number of the program's choice.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    int copy = must(fcntl(fd, F_DUPFD, 100));
    close(fd);
    say("bind", bind_ip(copy, "127.0.0.1", 8080));
}
