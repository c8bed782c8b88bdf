// RLIMIT_NOFILE reached: the hooks need no descriptor.
//: case deny
//: unwritten 3
//: rule deny bind tcp *:8080
//: stdout socket at the limit: EMFILE
//: stdout bind at the limit: EACCES
//: stdout another: ok
#include "check.h"
#include <sys/resource.h>

int main(void)
{
    must(setrlimit(RLIMIT_NOFILE, &(struct rlimit){20, 20}));
    int fd = tcp();
    while (dup(0) >= 0)
        ;
    say("socket at the limit", socket(AF_INET, SOCK_STREAM, 0));
    say("bind at the limit", bind_ip(fd, "127.0.0.1", 8080));
    say("another", bind_ip(fd, "127.0.0.1", 8081));
}
