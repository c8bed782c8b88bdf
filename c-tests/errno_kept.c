// A call that succeeds leaves errno alone.
//: case rules
//: rule move bind tcp *:8080 to loopback:18080
//: rule hide bind tcp *:8081
//: rule deny bind udp *:9
//: same
#include "check.h"
#include <sys/epoll.h>

#define KEEPS(call)                                                          \
    do {                                                                     \
        errno = 4242;                                                        \
        long result_ = (call);                                               \
        int e_ = errno;                                                      \
        printf("%s: %s, errno %s\n", #call, result_ < 0 ? "fails" : "ok",    \
               e_ == 4242 ? "kept" : strerrorname_np(e_));                   \
    } while (0)

int main(void)
{
    int fd, other, copy, pair[2], on = 1, poller = must(epoll_create1(0));
    struct address a = ip("127.0.0.1", 8080), b = ip("127.0.0.1", 8081), c = ip("0.0.0.0", 0);
    KEEPS(fd = socket(AF_INET, SOCK_STREAM, 0));
    KEEPS(other = socket(AF_INET, SOCK_STREAM, 0));
    KEEPS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    KEEPS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    KEEPS(bind(fd, &a.any, a.length));
    KEEPS(bind(other, &b.any, b.length));
    KEEPS(listen(fd, 1));
    KEEPS(listen(other, 1));
    socklen_t length = sizeof on;
    KEEPS(getsockopt(fd, SOL_SOCKET, SO_TYPE, &on, &length));
    KEEPS(getsockname(fd, &c.any, &c.length));
    KEEPS(getpeername(pair[0], &c.any, &c.length));
    struct epoll_event event = {.events = EPOLLIN};
    KEEPS(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event));
    KEEPS(copy = dup(fd));
    KEEPS(dup2(fd, copy));
    KEEPS(dup3(fd, copy, O_CLOEXEC));
    KEEPS(fcntl(fd, F_DUPFD, 40));
    KEEPS(fcntl(fd, F_DUPFD_CLOEXEC, 41));
    KEEPS(fcntl(fd, F_GETFL));
    KEEPS(close(copy));
    KEEPS(close_range(40, 41, 0));
    int datagram = udp();
    struct address d = ip("127.0.0.1", 8082);
    KEEPS(bind(datagram, &d.any, d.length));
    KEEPS(connect(datagram, &d.any, d.length));
    KEEPS(sendto(datagram, "x", 1, 0, NULL, 0));
    struct iovec io = {"x", 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    KEEPS(sendmsg(datagram, &m, 0));
    struct mmsghdr mm = {.msg_hdr = m};
    KEEPS(sendmmsg(datagram, &mm, 1, 0));
    char byte;
    io.iov_base = &byte;
    KEEPS(recvmsg(datagram, &m, 0));
    KEEPS(recvmmsg(datagram, &mm, 1, 0, NULL));
    KEEPS(syscall(SYS_getpid));
    KEEPS(syscall(SYS_close, other));
}
