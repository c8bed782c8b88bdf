// A hidden socket has a filter that the program knows nothing of: its own filter
// is taken, and nothing is locked.
//: case hide
//: rule hide bind tcp *:8080
//: same
//: log 1 hide bind
#include "check.h"
#include <linux/filter.h>

static void say_option(const char *what, int fd, int level, int name)
{
    int n = -1;
    socklen_t length = sizeof n;
    if (say(what, getsockopt(fd, level, name, &n, &length)) == 0)
        say_number(what, n);
}

int main(void)
{
    struct sock_filter keep = {.code = BPF_RET | BPF_K, .k = 65535};
    struct sock_fprog program = {1, &keep};
    int fd = tcp(), on = 1;
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    must(bind_ip(fd, "0.0.0.0", 8080));
    say_option("SO_LOCK_FILTER", fd, SOL_SOCKET, SO_LOCK_FILTER);
    say("SO_ATTACH_FILTER", setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
    say("SO_DETACH_FILTER", setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof on));
    say("SO_LOCK_FILTER", setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
    say_option("SO_LOCK_FILTER", fd, SOL_SOCKET, SO_LOCK_FILTER);
    say("a filter that is none", setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, 1));
}
