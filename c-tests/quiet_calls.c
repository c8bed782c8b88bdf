// Calls for which the library makes no system call of its own: the kernel would
// kill for it, by a filter of which the library does not know.
//
//     quiet_calls [bind]          with a bind, which no rule must be about
//: unemulated QEMU refuses filters
//: case bind
//: only run
//: args bind
//: rule deny bind tcp *:9
//: rule deny bind udp 127.0.0.3:*
//: stdout a filter: ok
//: stdout socket: ok
//: stdout bind: ok
//: stdout dup: ok
//: stdout dup2: ok
//: stdout dup3: ok
//: stdout fcntl: ok
//: stdout dup2 over a socket: ok
//: stdout epoll_ctl: ok
//: stdout sendto: ok
//: stdout recvmsg: ok
//: stdout close: ok
//: stdout close of a plain file: ok
//: stdout close_range: ok
//: log 2 allow bind
#include "filter.h"
#include <sys/epoll.h>

static void filter(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_dup2
        ALLOW(SYS_dup2),
#endif
        ALLOW(SYS_socket),
        ALLOW(SYS_bind),
        ALLOW(SYS_dup),
        ALLOW(SYS_dup3),
        ALLOW(SYS_fcntl),
        ALLOW(SYS_close),
        ALLOW(SYS_close_range),
        ALLOW(SYS_sendto),
        ALLOW(SYS_recvmsg),
        ALLOW(SYS_epoll_ctl),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(past_libc(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program));
}

int main(int argc, char **argv)
{
    int pair[2], epoll = must(epoll_create1(0)), plain = must(open("/dev/null", O_RDWR));
    must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    // What is asked once in a thread's life is asked now.
    must(bind_ip(tcp(), "127.0.0.1", 8080));
    setvbuf(stdout, NULL, _IONBF, 0);
    say("a filter", 0);
    filter();

    int fd = say("socket", socket(AF_INET, SOCK_STREAM, 0));
    if (argc > 1)
        say(argv[1], bind_ip(fd, "127.0.0.1", 8081));
    int copy = say("dup", dup(fd));
    say("dup2", dup2(fd, 40));
    say("dup3", dup3(fd, 41, O_CLOEXEC));
    say("fcntl", fcntl(fd, F_DUPFD_CLOEXEC, 42));
    say("dup2 over a socket", dup2(plain, copy));
    struct epoll_event event = {.events = EPOLLIN};
    say("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event));
    say("sendto", sendto(pair[1], "x", 1, 0, NULL, 0));
    char byte;
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    say("recvmsg", recvmsg(pair[0], &m, 0));
    say("close", close(fd));
    say("close of a plain file", close(plain));
    say("close_range", close_range(40, 50, 0));
    _exit(0);
}
