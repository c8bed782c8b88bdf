// A socket that was made past libc altogether is known all the same when libc
// is asked to bind it.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int fd = must(past_libc(SYS_socket, AF_INET, SOCK_STREAM, 0));
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
}
