// Limit: a system call that does not go through libc is not seen.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind past libc: ok
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(8080),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = tcp();
    say("bind past libc", past_libc(SYS_bind, fd, (long)&to, sizeof to));
    say("bind", bind_ip(tcp(), "127.0.0.2", 8080));
}
