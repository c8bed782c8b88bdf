// A vfork child has its parent's memory, and its own number: what it binds
// first stands in the log under that number, and what its parent binds then
// under the parent's. The parent is a fork child that nobody knows yet.
//: driven
#include "check.h"

static void binds(int count)
{
    for (int n = 0; n < count; n++) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 0));
        close(fd);
    }
}

static void parent(void)
{
    volatile int first = 3, second = 4;
    pid_t child = must(vfork());
    if (child == 0) {
        binds(first);
        _exit(0);
    }
    wait_for(child);
    binds(2);
    printf("%d binds 3\n%d binds 2\n", child, getpid());
    child = must(vfork());
    if (child == 0) {
        // A vfork child of a vfork child.
        pid_t grandchild = vfork();
        if (grandchild == 0) {
            binds(1);
            _exit(0);
        }
        binds(second);
        printf("%d binds 1\n", grandchild);
        fflush(stdout);
        _exit(0);
    }
    wait_for(child);
    printf("%d binds 4\n", child);
    fflush(stdout);
}

int main(void)
{
    pid_t child = must(fork());
    if (child == 0) {
        parent();
        _exit(0);
    }
    wait_for(child);
    binds(5);
    printf("%d binds 5\n", getpid());
}
