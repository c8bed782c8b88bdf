// A child that shares its parent's descriptors, not its memory: what it closes
// and opens is closed and open here too.
//: unemulated QEMU refuses clone() with these flags
//: case deny
//: rule deny bind udp *:8080
//: stdout bind of what the child put there: EACCES
//: log 1 deny bind
#include "check.h"
#include <sched.h>

static int fd;

static int child_main(void *unused)
{
    (void)unused;
    close(fd);
    return dup2(udp(), fd) == fd ? 0 : 1;
}

int main(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    fd = tcp();
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)));
    pid_t child = must(clone(child_main, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL));
    wait_for(child);
    say("bind of what the child put there", bind_ip(fd, "127.0.0.1", 8080));
}
