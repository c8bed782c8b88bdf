// What the C tests share. A test prints facts, one a line; whoever runs it
// compares the lines of a plain run with those of a run under bindgate.
#ifndef CHECK_H
#define CHECK_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Prints "what: ok", or "what: ECODE" if result is negative; gives it back.
__attribute__((unused)) static int say(const char *what, long result)
{
    int e = errno;
    printf("%s: %s\n", what, result < 0 ? strerrorname_np(e) : "ok");
    fflush(stdout);
    errno = e;
    return (int)result;
}

__attribute__((unused)) static void say_number(const char *what, long n)
{
    printf("%s: %ld\n", what, n);
    fflush(stdout);
}

// For what a test only needs in order to get started.
#define must(expression) must_(#expression, __LINE__, (long)(expression))
__attribute__((unused)) static int must_(const char *what, int line, long result)
{
    if (result < 0) {
        fprintf(stderr, "line %d: %s: %s\n", line, what, strerror(errno));
        exit(99);
    }
    return (int)result;
}

// An address, and its length.
struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    };
    socklen_t length;
};

// "127.0.0.1", 80 or "::", 80.
__attribute__((unused)) static struct address ip(const char *host, int port)
{
    struct address a;
    memset(&a, 0, sizeof a);
    if (strchr(host, ':')) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons((uint16_t)port);
        inet_pton(AF_INET6, host, &a.in6.sin6_addr);
        a.length = sizeof a.in6;
    } else {
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons((uint16_t)port);
        inet_pton(AF_INET, host, &a.in.sin_addr);
        a.length = sizeof a.in;
    }
    return a;
}

__attribute__((unused)) static int bind_ip(int fd, const char *host, int port)
{
    struct address a = ip(host, port);
    return bind(fd, &a.any, a.length);
}

__attribute__((unused)) static int connect_ip(int fd, const char *host, int port)
{
    struct address a = ip(host, port);
    return connect(fd, &a.any, a.length);
}

// A client of a server that may have been moved: to port "18080" of this host,
// to the Unix socket "/where/it/is", or, if nothing is said, to the given port.
__attribute__((unused)) static int client_of(int port, const char *where)
{
    struct address a = ip("127.0.0.1", where ? atoi(where) : port);
    if (where && where[0] == '/') {
        a.un.sun_family = AF_UNIX;
        strcpy(a.un.sun_path, where);
        a.length = sizeof a.un;
    }
    int fd = must(socket(a.any.sa_family, SOCK_STREAM, 0));
    must(connect(fd, &a.any, a.length));
    return fd;
}

__attribute__((unused)) static int tcp(void) { return must(socket(AF_INET, SOCK_STREAM, 0)); }
__attribute__((unused)) static int tcp6(void) { return must(socket(AF_INET6, SOCK_STREAM, 0)); }
__attribute__((unused)) static int udp(void) { return must(socket(AF_INET, SOCK_DGRAM, 0)); }

__attribute__((unused)) static const char *text(const struct address *a)
{
    static char buffer[200];
    char host[INET6_ADDRSTRLEN];
    switch (a->any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof host);
        snprintf(buffer, sizeof buffer, "%s:%d", host, ntohs(a->in.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof host);
        snprintf(buffer, sizeof buffer, "[%s]:%d", host, ntohs(a->in6.sin6_port));
        break;
    case AF_UNIX:
        snprintf(buffer, sizeof buffer, "unix:%s", a->length > 2 ? a->un.sun_path : "");
        break;
    default:
        snprintf(buffer, sizeof buffer, "family %d", a->any.sa_family);
    }
    return buffer;
}

// Prints what getsockname says, and the length that it gives.
__attribute__((unused)) static struct address say_name(const char *what, int fd)
{
    struct address a = {.length = sizeof a.storage};
    if (getsockname(fd, &a.any, &a.length) < 0) {
        say(what, -1);
        return a;
    }
    printf("%s: %s (%u bytes)\n", what, text(&a), a.length);
    fflush(stdout);
    return a;
}

// The port that getsockname tells.
__attribute__((unused)) static int port_of(int fd)
{
    struct address a = {.length = sizeof a.storage};
    must(getsockname(fd, &a.any, &a.length));
    return ntohs(a.in.sin_port);
}

// Waits for a child that must end well.
__attribute__((unused)) static void wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        must(errno == EINTR ? 0 : -1);
    if (status != 0)
        printf("child: %s %d\n", WIFEXITED(status) ? "exit" : "signal",
               WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    fflush(stdout);
}

// Waits until the thread of this process waits in the kernel for something.
__attribute__((unused)) static void wait_until_asleep(volatile pid_t *thread)
{
    while (*thread == 0)
        usleep(500);
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", *thread);
    for (char state = 0; state != 'S'; usleep(500)) {
        int fd = must(open(path, O_RDONLY));
        ssize_t length = must(read(fd, line, sizeof line - 1));
        close(fd);
        line[length] = 0;
        // PID (NAME) STATE …
        char *end = strrchr(line, ')');
        state = end ? end[2] : 0;
    }
}

// A system call by its number, past libc and everything between.
__attribute__((unused)) static long past_libc(long n, long a, long b, long c)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = n;
    register long result __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(result) : "r"(x8), "r"(x1), "r"(x2) : "memory");
#else
#error "which system call instruction?"
#endif
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

// What the kernel says the socket's address is, whoever stands in between.
__attribute__((unused)) static void say_real_name(const char *what, int fd)
{
    struct address a;
    memset(&a, 0, sizeof a);
    a.length = sizeof a.storage;
    must(past_libc(SYS_getsockname, fd, (long)&a.any, (long)&a.length));
    printf("%s: %s\n", what, text(&a));
    fflush(stdout);
}

// Sends a descriptor over a Unix socket, and receives one.
__attribute__((unused)) static void send_fd(int over, int fd)
{
    char byte = 'x';
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1,
                       .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    must(sendmsg(over, &m, 0));
}

__attribute__((unused)) static int receive_fd(int over)
{
    char byte;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1,
                       .msg_control = &control, .msg_controllen = sizeof control};
    must(recvmsg(over, &m, 0));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    must(c && c->cmsg_type == SCM_RIGHTS ? 0 : -1);
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

#endif
