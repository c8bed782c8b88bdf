/* What one call costs: `micro` reads lines "OP COUNT" and answers each with
 * the nanoseconds that COUNT calls of OP took. Whatever is needed besides the
 * calls is done through raw system calls, which no preload sees, and outside
 * the time taken.
 *
 *   micro PORT [OP COUNT]...     with operations: these, without the questions
 *
 * The work is in batch(): callgrind counts that function alone. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
static long raw3(long nr, long a, long b, long c)
{
    long ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static long raw3(long nr, long a, long b, long c)
{
    register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
#endif

#define MANY 512
static int fds[MANY];
static int null_fd, zero_fd, udp, udp_at, tcp_bound, tcp_listening, pair[2], epoll_fd, unbound, dup_of;
static struct sockaddr_in port, automatic, elsewhere;
static struct sockaddr_un name;
static char buffer[64];

static void need(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

enum op {
    BIND_PORT, BIND_STATIC, BIND_AUTO, BIND_UNIX, BIND_UDP, LISTEN_PORT, SOCKET, SOCKETPAIR, BIND, LISTEN, ACCEPT,
    CONNECT, GETSOCKNAME, GETPEERNAME, GETSOCKOPT, SETSOCKOPT, CLOSE, CLOSE_SOCKET, CLOSE_NONE,
    CLOSE_RANGE, DUP, DUP2, DUP3, FCNTL, FCNTL_DUP, READ, SEND, SENDTO, SENDTO_ADDRESS, SENDMSG, RECVMSG, RECVMMSG,
    EPOLL_CTL, SYSCALL, PRCTL, GETPID, CLOSE_FROM, OPS
};
static const char *const names[OPS] = {
    "bind-port", "bind-static", "bind-auto", "bind-unix", "bind-udp", "listen-port", "socket", "socketpair", "bind", "listen",
    "accept", "connect", "getsockname", "getpeername", "getsockopt", "setsockopt", "close", "close-socket",
    "close-none", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl-dup", "read", "send", "sendto",
    "sendto-address", "sendmsg", "recvmsg", "recvmmsg", "epoll_ctl", "syscall", "prctl", "getpid",
    "close-from",
};

/* Operations that make a descriptor each, or use one up: in lots of MANY. */
static int lots(enum op op)
{
    return op == SOCKET || op == SOCKETPAIR || op == CLOSE || op == CLOSE_SOCKET || op == DUP || op == FCNTL_DUP ||
           op == ACCEPT;
}

static void before(enum op op, int n)
{
    int i;
    switch (op) {
    case CLOSE:
        for (i = 0; i < n; i++)
            fds[i] = (int)raw3(SYS_dup, null_fd, 0, 0);
        break;
    case CLOSE_SOCKET:
        for (i = 0; i < n; i++)
            fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        break;
    case ACCEPT:
        for (i = 0; i < n; i++) {
            int s = (int)raw3(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            long r = raw3(SYS_connect, s, (long)&elsewhere, sizeof elsewhere);
            need(r == 0 || r == -EINPROGRESS, "connect for accept");
            fds[n + i] = s;
        }
        break;
    default:
        break;
    }
}

static void after(enum op op, int n)
{
    int i;
    if (op == CLOSE || op == CLOSE_SOCKET || !lots(op))
        return;
    for (i = 0; i < n; i++)
        raw3(SYS_close, fds[i], 0, 0);
    if (op == ACCEPT || op == SOCKETPAIR)
        for (i = 0; i < n; i++)
            raw3(SYS_close, fds[n + i], 0, 0);
}

#define TIMES for (i = 0; i < n; i++)
#define SA(a) (struct sockaddr *)&(a), sizeof(a)

__attribute__((noinline)) void batch(enum op op, int n)
{
    /* Most programs have the address they bind on the stack. */
    struct sockaddr_in from, here = port, any = automatic;
    socklen_t len;
    struct iovec iov = {buffer, 16};
    struct msghdr msg = {0};
    struct mmsghdr mmsg = {{0}, 0};
    struct epoll_event event = {EPOLLIN, {0}};
    int i, s, value;
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    mmsg.msg_hdr = msg;
    switch (op) {
    case BIND_PORT:
        TIMES
        {
            s = socket(AF_INET, SOCK_STREAM, 0);
            if (bind(s, SA(here)))
                abort();
            close(s);
        }
        break;
    case BIND_STATIC:
        TIMES
        {
            s = socket(AF_INET, SOCK_STREAM, 0);
            if (bind(s, SA(port)))
                abort();
            close(s);
        }
        break;
    case BIND_AUTO:
        TIMES
        {
            s = socket(AF_INET, SOCK_STREAM, 0);
            bind(s, SA(any));
            close(s);
        }
        break;
    case BIND_UDP:
        TIMES
        {
            s = socket(AF_INET, SOCK_DGRAM, 0);
            bind(s, SA(port));
            close(s);
        }
        break;
    case BIND_UNIX:
        TIMES
        {
            s = socket(AF_UNIX, SOCK_STREAM, 0);
            bind(s, SA(name));
            close(s);
            unlink(name.sun_path);
        }
        break;
    case LISTEN_PORT:
        TIMES
        {
            s = socket(AF_INET, SOCK_STREAM, 0);
            bind(s, SA(port));
            listen(s, 1);
            close(s);
        }
        break;
    case SOCKET: TIMES fds[i] = socket(AF_INET, SOCK_STREAM, 0); break;
    case SOCKETPAIR:
        TIMES
        {
            int two[2];
            socketpair(AF_UNIX, SOCK_STREAM, 0, two);
            fds[i] = two[0];
            fds[n + i] = two[1];
        }
        break;
    case BIND: TIMES bind(tcp_bound, SA(port)); break;
    case LISTEN: TIMES listen(tcp_listening, MANY); break;
    case ACCEPT: TIMES { len = sizeof from; fds[i] = accept(tcp_listening, (struct sockaddr *)&from, &len); } break;
    case CONNECT: TIMES connect(udp, SA(elsewhere)); break;
    case GETSOCKNAME: TIMES { len = sizeof from; getsockname(udp, (struct sockaddr *)&from, &len); } break;
    case GETPEERNAME: TIMES { len = sizeof from; getpeername(udp, (struct sockaddr *)&from, &len); } break;
    case GETSOCKOPT: TIMES { len = sizeof value; getsockopt(udp, SOL_SOCKET, SO_TYPE, &value, &len); } break;
    case SETSOCKOPT: value = 1; TIMES setsockopt(udp, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value); break;
    case CLOSE:
    case CLOSE_SOCKET: TIMES close(fds[i]); break;
    case CLOSE_NONE: TIMES close(-1); break;
    case CLOSE_RANGE: TIMES close_range(60000, 60010, 0); break;
    case CLOSE_FROM: TIMES close_range(1000, ~0u, 0); break;
    case DUP: TIMES fds[i] = dup(null_fd); break;
    case DUP2: TIMES dup2(null_fd, dup_of); break;
    case DUP3: TIMES dup3(null_fd, dup_of, O_CLOEXEC); break;
    case FCNTL: TIMES fcntl(null_fd, F_GETFL); break;
    case FCNTL_DUP: TIMES fds[i] = fcntl(null_fd, F_DUPFD, 3); break;
    case READ: TIMES read(zero_fd, buffer, 1); break;
    case SEND: TIMES send(udp, buffer, 16, MSG_DONTWAIT); break;
    case SENDTO: TIMES sendto(udp, buffer, 16, MSG_DONTWAIT, NULL, 0); break;
    case SENDTO_ADDRESS: TIMES sendto(udp, buffer, 16, MSG_DONTWAIT, SA(elsewhere)); break;
    case SENDMSG: TIMES sendmsg(udp, &msg, MSG_DONTWAIT); break;
    case RECVMSG: TIMES recvmsg(udp_at, &msg, MSG_DONTWAIT); break;
    case RECVMMSG: TIMES recvmmsg(udp_at, &mmsg, 1, MSG_DONTWAIT, NULL); break;
    case EPOLL_CTL: TIMES epoll_ctl(epoll_fd, EPOLL_CTL_MOD, udp, &event); break;
    case SYSCALL: TIMES syscall(SYS_getppid); break;
    case PRCTL: TIMES prctl(PR_GET_DUMPABLE); break;
    case GETPID: TIMES getpid(); break;
    case OPS: break;
    }
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t run(const char *what, long count)
{
    uint64_t took = 0;
    int op;
    for (op = 0; op < OPS && strcmp(names[op], what); op++)
        ;
    need(op < OPS, what);
    while (count > 0) {
        int n = (int)(count > 1000000 ? 1000000 : count);
        uint64_t start;
        if (lots((enum op)op) && n > MANY / 2)
            n = MANY / 2;
        before((enum op)op, n);
        start = now();
        batch((enum op)op, n);
        took += now() - start;
        after((enum op)op, n);
        count -= n;
    }
    return took;
}

static struct sockaddr_in at(int p)
{
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((uint16_t)p);
    return a;
}

static void set_up(int p)
{
    struct epoll_event event = {EPOLLIN, {0}};
    socklen_t len = sizeof elsewhere;
    struct sockaddr_in a;
    port = at(p);
    automatic = at(0);
    name.sun_family = AF_UNIX;
    snprintf(name.sun_path, sizeof name.sun_path, "/tmp/bench-%d-%d.sock", p, (int)getpid());
    null_fd = open("/dev/null", O_RDWR);
    zero_fd = open("/dev/zero", O_RDONLY);
    dup_of = open("/dev/null", O_RDONLY);
    unbound = socket(AF_INET, SOCK_STREAM, 0);
    tcp_bound = socket(AF_INET, SOCK_STREAM, 0);
    bind(tcp_bound, SA(automatic));
    tcp_listening = socket(AF_INET, SOCK_STREAM, 0);
    bind(tcp_listening, SA(automatic));
    /* Some of the libraries measured refuse some of this. */
    if (listen(tcp_listening, MANY))
        perror("listen");
    udp_at = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(udp_at, SA(automatic)))
        perror("bind");
    getsockname(udp_at, (struct sockaddr *)&a, &len);
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(udp, SA(a)))
        perror("connect");
    len = sizeof elsewhere;
    getsockname(tcp_listening, (struct sockaddr *)&elsewhere, &len);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    epoll_fd = epoll_create1(0);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, udp, &event);
}

int main(int argc, char **argv)
{
    char line[128], what[64];
    long count;
    int i;
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return 2;
    set_up(atoi(argv[1]));
    for (i = 2; i + 1 < argc; i += 2)
        printf("%s %llu\n", argv[i], (unsigned long long)run(argv[i], atol(argv[i + 1])));
    if (argc > 2)
        return 0;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%63s %ld", what, &count) != 2)
            continue;
        printf("%llu\n", (unsigned long long)run(what, count));
        fflush(stdout);
    }
    return 0;
}
