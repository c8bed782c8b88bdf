// Every hooked call that takes an address, with every bad address: the same
// answer as without bindgate, and never a crash. Also where rules are asked.
//: case rules that match nothing
//: rule deny bind tcp 127.0.0.99:9
//: rule deny bind udp 127.0.0.99:9
//: rule deny bind vsock 77:9
//: rule deny connect any 127.0.0.99:9
//: same
//: case moves that match nothing
//: rule move bind tcp 127.0.0.99:9 to loopback:1009
//: rule move bind tcp 127.0.0.98:9 to unix:$DIR/s
//: same
#include "check.h"
#include <sys/epoll.h>
#include <sys/uio.h>

static char *page;      // readable and writable, with nothing behind it
static char *odd;       // misaligned
static int fd;

static void one(const char *call, const char *what, long result)
{
    int e = errno;
    printf("%-12s %-22s %s\n", call, what, result < 0 ? strerrorname_np(e) : "ok");
}

static void fresh(int family, int type)
{
    close(fd);
    fd = must(socket(family, type, 0));
}

struct bad {
    const char *name;
    char *pointer;
    socklen_t length;
};

static struct bad bad[24];
static int bads;

static void add(const char *name, void *pointer, socklen_t length)
{
    bad[bads++] = (struct bad){name, pointer, length};
}

static void prepare(void)
{
    page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(page == MAP_FAILED ? -1 : 0);
    must(mprotect(page, 4096, PROT_NONE));
    must(mprotect(page + 8192, 4096, PROT_NONE));
    struct address a = ip("127.0.0.1", 8080);
    char *end = page + 8192;
    odd = page + 4096 + 1;
    memcpy(odd, &a.in, sizeof a.in);
    memcpy(end - sizeof a.in, &a.in, sizeof a.in);
    add("null", NULL, 16);
    add("null, length 0", NULL, 0);
    add("null, length 2", NULL, 2);
    add("address 1", (void *)1, 16);
    add("kernel address", (void *)~0xfffUL, 16);
    add("unmapped before", page + 100, 16);
    add("unmapped behind", end, 16);
    add("last 16 of the page", end - 16, 16);
    add("last 16, length 28", end - 16, 28);
    add("last 8, length 16", end - 8, 16);
    add("last byte, length 1", end - 1, 1);
    add("last 2, length 2", end - 2, 2);
    add("length 0", end - 16, 0);
    add("length 1", end - 16, 1);
    add("length 15", end - 16, 15);
    add("length 129", page + 4096, 129);
    add("length -1", end - 16, (socklen_t)-1);
    add("length INT_MIN", end - 16, (socklen_t)0x80000000u);
    add("misaligned", odd, 16);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    prepare();
    int families[] = {AF_INET, AF_INET6, AF_UNIX};
    char what[80];
    for (unsigned f = 0; f < COUNT(families); f++) {
        for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
            for (int i = 0; i < bads; i++) {
                struct sockaddr *p = (struct sockaddr *)bad[i].pointer;
                socklen_t length = bad[i].length;
                snprintf(what, sizeof what, "%d %d %s", families[f], type, bad[i].name);
                fresh(families[f], type);
                one("bind", what, bind(fd, p, length));
                fresh(families[f], type);
                if (type == SOCK_DGRAM)
                    one("connect", what, connect(fd, p, length));
                fresh(families[f], type);
                one("sendto", what, sendto(fd, "x", 1, MSG_NOSIGNAL, p, length));
                struct iovec io = {"x", 1};
                struct msghdr m = {.msg_name = p, .msg_namelen = length,
                                   .msg_iov = &io, .msg_iovlen = 1};
                one("sendmsg", what, sendmsg(fd, &m, MSG_NOSIGNAL));
                struct mmsghdr mm = {.msg_hdr = m};
                one("sendmmsg", what, sendmmsg(fd, &mm, 1, MSG_NOSIGNAL));
            }
        }
    }

    for (int i = 0; i < bads; i++) {
        // The address goes out, and its length is a pointer too.
        fresh(AF_INET, SOCK_STREAM);
        struct sockaddr *p = (struct sockaddr *)bad[i].pointer;
        socklen_t length = bad[i].length;
        if (p == (struct sockaddr *)odd || (char *)p > page)
            must(mprotect(page + 4096, 4096, PROT_READ));
        one("getsockname", bad[i].name, getsockname(fd, p, &length));
        one("getsockname*", bad[i].name, getsockname(fd, &(struct address){0}.any, (socklen_t *)p));
        one("getpeername", bad[i].name, getpeername(fd, p, &length));
        one("accept", bad[i].name, accept(fd, p, &length));
        one("accept4", bad[i].name, accept4(fd, p, &length, 0));
        one("getsockopt", bad[i].name, getsockopt(fd, SOL_SOCKET, SO_TYPE, p, &length));
        one("getsockopt*", bad[i].name, getsockopt(fd, SOL_SOCKET, SO_TYPE, what, (socklen_t *)p));
        one("setsockopt", bad[i].name, setsockopt(fd, SOL_SOCKET, SO_RCVBUF, p, bad[i].length));
        one("sendmsg*", bad[i].name, sendmsg(fd, (struct msghdr *)p, MSG_NOSIGNAL));
        one("recvmsg*", bad[i].name, recvmsg(fd, (struct msghdr *)p, MSG_DONTWAIT));
        one("sendmmsg*", bad[i].name, sendmmsg(fd, (struct mmsghdr *)p, 1, MSG_NOSIGNAL));
        one("recvmmsg*", bad[i].name, recvmmsg(fd, (struct mmsghdr *)p, 1, MSG_DONTWAIT, NULL));
        one("socketpair", bad[i].name, socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)p));
        int poller = epoll_create1(0);
        one("epoll_ctl", bad[i].name, epoll_ctl(poller, EPOLL_CTL_ADD, fd, (struct epoll_event *)p));
        close(poller);
        must(mprotect(page + 4096, 4096, PROT_READ | PROT_WRITE));
    }

    int numbers[] = {-1, -100, 999, 1000000, INT32_MAX, INT32_MIN};
    for (unsigned i = 0; i < COUNT(numbers); i++) {
        struct address a = ip("127.0.0.1", 8080);
        int n = numbers[i];
        snprintf(what, sizeof what, "%d", n);
        one("bind", what, bind(n, &a.any, a.length));
        one("bind null", what, bind(n, NULL, 0));
        one("listen", what, listen(n, 1));
        one("connect", what, connect(n, &a.any, a.length));
        one("accept", what, accept(n, NULL, NULL));
        one("getsockname", what, getsockname(n, &a.any, &a.length));
        one("close", what, close(n));
        one("dup", what, dup(n));
        one("dup2", what, dup2(n, 5));
        one("dup3 same", what, dup3(n, n, 0));
        one("fcntl", what, fcntl(n, F_DUPFD, 3));
        one("socket type", what, socket(AF_INET, n, 0));
        one("socket protocol", what, socket(AF_INET, SOCK_STREAM, n));
        one("socket family", what, socket(n, SOCK_STREAM, 0));
    }
    one("close_range", "backwards", close_range(9, 8, 0));
    one("close_range", "bad flags", close_range(900, 901, 0x7000));
    one("dup2", "onto -1", dup2(fd, -1));
    one("dup2", "onto itself", dup2(fd, fd));
    one("F_DUPFD", "-1", fcntl(fd, F_DUPFD, -1));
    int pipes[2];
    must(pipe(pipes));
    struct address a = ip("127.0.0.1", 8080);
    one("bind", "a pipe", bind(pipes[0], &a.any, a.length));
    one("listen", "a pipe", listen(pipes[0], 1));
    one("getsockname", "a pipe", getsockname(pipes[0], &a.any, &a.length));
    int path = must(open(".", O_PATH));
    one("bind", "O_PATH", bind(path, &a.any, a.length));
}
