// A socket made by syscall(), bound by libc.
//: case deny bind
//: rule deny bind tcp *:8080
//: stdout socket: ok
//: stdout bind: EACCES
//: log 1 deny bind
//: case deny socket
//: rule deny socket tcp
//: stdout socket: EACCES
//: stdout bind: EBADF
//: log 1 deny socket
#include "check.h"

int main(void)
{
    int fd = say("socket", syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
}
