// A moved socket that asked for any port is told the port that it got.
//: case move
//: rule move bind tcp *:auto to loopback:18080
//: stdout bind: ok
//: stdout told the real port: yes
//: stdout address: 0.0.0.0
//: log 1 move bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "0.0.0.0", 0));
    struct address real = {.length = sizeof real.storage}, told = real;
    must(past_libc(SYS_getsockname, fd, (long)&real.any, (long)&real.length));
    must(getsockname(fd, &told.any, &told.length));
    printf("told the real port: %s\n", told.in.sin_port == real.in.sin_port ? "yes" : "no");
    printf("address: %s\n", inet_ntoa(told.in.sin_addr));
}
