// The table of every_hook.c: the hooked calls, and what each is called with.
#ifndef EVERY_HOOK_ROWS_H
#define EVERY_HOOK_ROWS_H

#include "every_hook_arguments.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <wordexp.h>

struct row {
    const char *name;
    void (*hook)(void);
    long number;                // as a system call; 0 if it is none
    void (*arguments)(long *);
    int family, type;
    enum { HERE, CHILD, PROGRAM } where;
    enum { AN_INT, A_LONG, NOTHING } answer;
};

// The row in hand, and where the server on port 9999 is.
static const struct row *current;
static const char *server;

static struct address in4, in6, un, other_in4, un_listener;
static int listener, other_listener, unix_listener, connected;

static int fresh(void) { return must(socket(current->family, current->type, 0)); }
static int poll_instance(void) { return must(dup(poller)); }
static int the_listener(void) { return must(dup(listener)); }
static int the_unix_listener(void) { return must(dup(unix_listener)); }
static int the_connection(void) { return must(dup(connected)); }
static int executable(void) { return must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)); }

static int with_a_client(void)
{
    client_of(9999, server);
    return the_listener();
}

// One end of a pair, with a byte and a descriptor waiting in it.
static int with_a_message(void)
{
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    send_fd(pair[1], pipe_end);
    return pair[0];
}

static int one_of_a_pair(void)
{
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    return pair[0];
}

static const struct address *own_address(void)
{
    return current->family == AF_INET ? &in4 : current->family == AF_INET6 ? &in6 : &un;
}

static const struct address *other_address(void)
{
    return current->family == AF_INET ? &other_in4
           : current->family == AF_INET6 ? &in6 : &un_listener;
}

static void socket_(long *a)
{
    a[0] = number("family", current->family);
    a[1] = number("type", current->type);
    a[2] = number("protocol", 0);
}

static void socketpair_(long *a)
{
    socket_(a);
    a[3] = out("pair", 2 * sizeof(int));
}

static void bind_(long *a)
{
    a[0] = descriptor(fresh);
    a[1] = in("address", own_address(), own_address()->length);
    a[2] = length(own_address()->length);
}

static void connect_(long *a)
{
    a[0] = descriptor(fresh);
    a[1] = in("address", other_address(), other_address()->length);
    a[2] = length(other_address()->length);
}

static void listen_(long *a)
{
    a[0] = descriptor(fresh);
    a[1] = number("backlog", 5);
}

static void accept_(long *a)
{
    a[0] = descriptor(with_a_client);
    a[1] = out("address", sizeof(struct sockaddr_in));
    a[2] = length_at(sizeof(struct sockaddr_in));
}

static void accept4_(long *a)
{
    accept_(a);
    a[3] = number("flags", SOCK_CLOEXEC);
}

static void getsockname_(long *a)
{
    a[0] = descriptor(current->family == AF_INET ? the_listener : the_unix_listener);
    a[1] = out("address", other_address()->length);
    a[2] = length_at(other_address()->length);
}

static void getpeername_(long *a)
{
    a[0] = descriptor(the_connection);
    a[1] = out("address", sizeof(struct sockaddr_in));
    a[2] = length_at(sizeof(struct sockaddr_in));
}

static void getsockopt_(long *a)
{
    a[0] = descriptor(the_listener);
    a[1] = number("level", current->family);
    a[2] = number("name", current->type);
    size_t size = current->type == SO_LINGER ? sizeof(struct linger) : sizeof(int);
    a[3] = out("value", size);
    a[4] = length_at((uint32_t)size);
}

static void setsockopt_(long *a)
{
    static const struct linger off = {0, 0};
    a[0] = descriptor(the_listener);
    a[1] = number("level", current->family);
    a[2] = number("name", current->type);
    size_t size = current->type == SO_LINGER ? sizeof off : sizeof(int);
    a[3] = in("value", &off, size);
    a[4] = length(size);
}

static void close_(long *a) { a[0] = descriptor(fresh); }

static void close_range_(long *a)
{
    a[0] = number("first", 500);
    a[1] = number("last", 600);
    a[2] = number("flags", 0);
}

static void closefrom_(long *a) { a[0] = number("first", 500); }

static void dup2_(long *a)
{
    a[0] = descriptor(fresh);
    a[1] = number("new", 300);
}

static void dup3_(long *a)
{
    dup2_(a);
    a[2] = number("flags", O_CLOEXEC);
}

static void fcntl_(long *a)
{
    static const struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    a[0] = descriptor(current->type == F_GETLK ? executable : tcp);
    a[1] = number("command", current->type);
    a[2] = current->type == F_GETLK ? in("lock", &lock, sizeof lock) : number("argument", 300);
}

static void send_(long *a)
{
    a[0] = descriptor(one_of_a_pair);
    a[1] = in("data", "data", 4);
    a[2] = length(4);
    a[3] = number("flags", MSG_NOSIGNAL);
}

static void sendto_(long *a)
{
    a[0] = descriptor(fresh);
    a[1] = in("data", "data", 4);
    a[2] = length(4);
    a[3] = number("flags", MSG_NOSIGNAL);
    a[4] = in("address", other_address(), other_address()->length);
    a[5] = length(other_address()->length);
}

// The fields of a message, with an option for IP or a descriptor to pass on.
static struct msghdr message(const void *name, size_t name_length, int receives)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    int is_ip = current->family != AF_UNIX, value = is_ip ? 5 : pipe_end;
    memset(&control, 0, sizeof control);
    control.header.cmsg_level = is_ip ? IPPROTO_IP : SOL_SOCKET;
    control.header.cmsg_type = is_ip ? IP_TTL : SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(&control.header), &value, sizeof value);

    struct msghdr m;
    memset(&m, 0, sizeof m);
    if (name) {
        m.msg_name = (void *)(receives ? out("name", name_length) : in("name", name, name_length));
        m.msg_namelen = (socklen_t)length(name_length);
    }
    struct iovec io;
    io.iov_base = (void *)(receives ? out("base", 1) : in("base", "x", 1));
    io.iov_len = (size_t)length(1);
    m.msg_iov = (void *)in("iov", &io, sizeof io);
    static const long counts[] = {0, 1025, INT_MAX, -1};
    m.msg_iovlen = (size_t)of("iovlen", 1, counts, COUNT(counts), ALONE);
    m.msg_control = (void *)(receives ? out("control", sizeof control)
                                      : in("control", &control, sizeof control));
    m.msg_controllen = (size_t)length(sizeof control);
    return m;
}

static void sendmsg_(long *a)
{
    int is_ip = current->family != AF_UNIX;
    a[0] = descriptor(is_ip ? fresh : one_of_a_pair);
    struct msghdr m = message(is_ip ? other_address() : NULL, other_address()->length, 0);
    a[1] = in("message", &m, sizeof m);
    a[2] = number("flags", MSG_NOSIGNAL);
}

static void sendmmsg_(long *a)
{
    a[0] = descriptor(fresh);
    struct mmsghdr m = {.msg_hdr = message(other_address(), other_address()->length, 0)};
    a[1] = in("messages", &m, sizeof m);
    a[2] = number("count", 1);
    a[3] = number("flags", MSG_NOSIGNAL);
}

static void recvmsg_(long *a)
{
    a[0] = descriptor(with_a_message);
    struct msghdr m = message(&un, sizeof un.un, 1);
    a[1] = in("message", &m, sizeof m);
    a[2] = number("flags", MSG_DONTWAIT);
}

static void recvmmsg_(long *a)
{
    static const struct timespec at_once;
    a[0] = descriptor(with_a_message);
    struct mmsghdr m = {.msg_hdr = message(&un, sizeof un.un, 1)};
    a[1] = in("messages", &m, sizeof m);
    a[2] = number("count", 1);
    a[3] = number("flags", MSG_DONTWAIT);
    a[4] = in("timeout", &at_once, sizeof at_once);
}

static void recv_(long *a)
{
    a[0] = descriptor(with_a_message);
    a[1] = out("buffer", 8);
    a[2] = number("size", 8);
    a[3] = number("flags", MSG_DONTWAIT);
}

static void recvfrom_(long *a)
{
    recv_(a);
    a[4] = out("address", sizeof un.un);
    a[5] = length_at(sizeof un.un);
}

// What a program calls that is compiled with -D_FORTIFY_SOURCE.
extern ssize_t __recv_chk(int, void *, size_t, size_t, int);
extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);
extern int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

static void recv_chk_(long *a)
{
    recv_(a);
    a[4] = a[3];
    a[3] = -1;
}

// It has one argument more than a row: the size of the buffer.
static long recvfrom_checked(long fd, long buffer, long size, long flags, long from, long length)
{
    return __recvfrom_chk((int)fd, (void *)buffer, (size_t)size, (size_t)-1, (int)flags,
                          (struct sockaddr *)from, (socklen_t *)length);
}

static void shutdown_(long *a)
{
    a[0] = descriptor(one_of_a_pair);
    a[1] = number("how", SHUT_WR);
}

// Of a connection that can always be written to.
static void poll_(long *a)
{
    struct pollfd entry = {connected, POLLOUT, 0};
    a[0] = in("entries", &entry, sizeof entry);
    a[1] = number("count", 1);
    a[2] = number("time", 0);
}

static void poll_chk_(long *a)
{
    poll_(a);
    a[3] = -1;
}

static void ppoll_(long *a)
{
    static const struct timespec at_once;
    poll_(a);
    a[2] = in("time", &at_once, sizeof at_once);
    a[3] = 0;
}

static void ppoll_chk_(long *a)
{
    ppoll_(a);
    a[4] = -1;
}

static void ioctl_(long *a)
{
    a[0] = descriptor(the_connection);
    a[1] = number("request", FIONREAD);
    a[2] = out("value", sizeof(int));
}

static void open_(long *a)
{
    a[0] = in("path", "/dev/null", 10);
    a[1] = number("flags", O_RDONLY | O_CLOEXEC);
    a[2] = number("mode", 0);
}

static void openat_(long *a)
{
    a[0] = number("directory", AT_FDCWD);
    open_(a + 1);
}

static void epoll_ctl_(long *a)
{
    static const struct epoll_event event = {.events = EPOLLIN};
    a[0] = descriptor(poll_instance);
    a[1] = number("operation", EPOLL_CTL_ADD);
    a[2] = descriptor(fresh);
    a[3] = in("event", &event, sizeof event);
}

// A filter that lets everything pass.
static long filter(void)
{
    static const struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program;
    memset(&program, 0, sizeof program);
    program.filter = (struct sock_filter *)in("filter", &all, sizeof all);
    program.len = (unsigned short)length(1);
    return in("program", &program, sizeof program);
}

static void prctl_(long *a)
{
    a[0] = number("option", PR_SET_SECCOMP);
    a[1] = number("mode", SECCOMP_MODE_FILTER);
    a[2] = filter();
}

static void seccomp_(long *a)
{
    a[0] = number("operation", SECCOMP_SET_MODE_FILTER);
    a[1] = number("flags", 0);
    a[2] = filter();
}

static void no_call(long *a) { a[0] = number("argument", 0); }

static void exec_(long *a)
{
    a[0] = string("path", current->type ? "true" : "/proc/self/exe");
    a[1] = strings("argv", "again");
    a[2] = strings("envp", "PATH=/usr/bin:/bin");
}

static void execl_(long *a)
{
    a[0] = string("path", current->type ? "true" : "/proc/self/exe");
    a[1] = string("first", "again");
    a[2] = 0;
    a[3] = strings("envp", "PATH=/usr/bin:/bin");
}

static void fexecve_(long *a)
{
    a[0] = descriptor(executable);
    a[1] = strings("argv", "again");
    a[2] = strings("envp", "PATH=/usr/bin:/bin");
}

static void execveat_(long *a)
{
    a[0] = current->type ? descriptor(executable) : AT_FDCWD;
    a[1] = string("path", current->type ? "" : "/proc/self/exe");
    a[2] = strings("argv", "again");
    a[3] = strings("envp", "PATH=/usr/bin:/bin");
    a[4] = number("flags", current->type ? AT_EMPTY_PATH : 0);
}

static void posix_spawn_(long *a)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    a[0] = out("pid", sizeof(pid_t));
    a[1] = string("path", current->type ? "true" : "/proc/self/exe");
    a[2] = in("actions", &actions, sizeof actions);
    a[3] = in("attributes", &attributes, sizeof attributes);
    a[4] = strings("argv", "again");
    a[5] = strings("envp", "PATH=/usr/bin:/bin");
}

static void system_(long *a) { a[0] = string("command", "exit 42"); }

static void popen_(long *a)
{
    a[0] = string("command", "exit 42");
    a[1] = string("kind", "r");
}

// What it gives is an address: the status tells more.
static long popen_and_close(const char *command, const char *kind)
{
    FILE *pipe = popen(command, kind);
    return pipe ? pclose(pipe) : -1;
}

static void wordexp_(long *a)
{
    a[0] = string("words", "$(echo a b) c");
    a[1] = number("flags", 0);
}

// How many words, or an error.
static long wordexp_and_free(const char *words, long flags)
{
    wordexp_t all = {0};
    int error = wordexp(words, &all, (int)flags);
    long count = (long)all.we_wordc;
    if (!error)
        wordfree(&all);
    return error ? 1000 + error : count;
}

#define HOOK(name) #name, (void (*)(void))name
#define CALL(name) HOOK(name), SYS_##name

static const struct row rows[] = {
    {CALL(socket), socket_, AF_INET, SOCK_STREAM, HERE, AN_INT},
    {CALL(socket), socket_, AF_UNIX, SOCK_DGRAM, HERE, AN_INT},
    {CALL(socketpair), socketpair_, AF_UNIX, SOCK_STREAM, HERE, AN_INT},
    {CALL(bind), bind_, AF_INET, SOCK_STREAM, HERE, AN_INT},
    {CALL(bind), bind_, AF_INET, SOCK_DGRAM, HERE, AN_INT},
    {CALL(bind), bind_, AF_INET6, SOCK_STREAM, HERE, AN_INT},
    {CALL(bind), bind_, AF_INET6, SOCK_DGRAM, HERE, AN_INT},
    {CALL(bind), bind_, AF_UNIX, SOCK_STREAM, HERE, AN_INT},
    {CALL(bind), bind_, AF_UNIX, SOCK_DGRAM, HERE, AN_INT},
    {CALL(connect), connect_, AF_INET, SOCK_STREAM, HERE, AN_INT},
    {CALL(connect), connect_, AF_INET, SOCK_DGRAM, HERE, AN_INT},
    {CALL(connect), connect_, AF_INET6, SOCK_STREAM, HERE, AN_INT},
    {CALL(connect), connect_, AF_INET6, SOCK_DGRAM, HERE, AN_INT},
    {CALL(connect), connect_, AF_UNIX, SOCK_STREAM, HERE, AN_INT},
    {CALL(listen), listen_, AF_INET, SOCK_STREAM, HERE, AN_INT},
    {CALL(accept), accept_, 0, 0, HERE, AN_INT},
    {CALL(accept4), accept4_, 0, 0, HERE, AN_INT},
    {CALL(getsockname), getsockname_, AF_INET, 0, HERE, AN_INT},
    {CALL(getsockname), getsockname_, AF_UNIX, 0, HERE, AN_INT},
    {CALL(getpeername), getpeername_, 0, 0, HERE, AN_INT},
    {CALL(getsockopt), getsockopt_, SOL_SOCKET, SO_TYPE, HERE, AN_INT},
    {CALL(getsockopt), getsockopt_, SOL_SOCKET, SO_LINGER, HERE, AN_INT},
    {CALL(getsockopt), getsockopt_, IPPROTO_TCP, TCP_NODELAY, HERE, AN_INT},
    {CALL(setsockopt), setsockopt_, SOL_SOCKET, SO_KEEPALIVE, HERE, AN_INT},
    {CALL(setsockopt), setsockopt_, SOL_SOCKET, SO_LINGER, HERE, AN_INT},
    {CALL(setsockopt), setsockopt_, IPPROTO_TCP, TCP_NODELAY, HERE, AN_INT},
    {HOOK(send), 0, send_, AF_INET, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendto), sendto_, AF_INET, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendto), sendto_, AF_INET6, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendto), sendto_, AF_UNIX, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendmsg), sendmsg_, AF_INET, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendmsg), sendmsg_, AF_UNIX, SOCK_STREAM, HERE, A_LONG},
    {CALL(sendmmsg), sendmmsg_, AF_INET, SOCK_DGRAM, HERE, AN_INT},
    {CALL(recvmsg), recvmsg_, AF_UNIX, SOCK_STREAM, HERE, A_LONG},
    {CALL(recvmmsg), recvmmsg_, AF_UNIX, SOCK_STREAM, HERE, AN_INT},
    {HOOK(recv), 0, recv_, AF_UNIX, SOCK_STREAM, HERE, A_LONG},
    {CALL(recvfrom), recvfrom_, AF_UNIX, SOCK_STREAM, HERE, A_LONG},
    {"__recvfrom_chk", (void (*)(void))recvfrom_checked, 0, recvfrom_, AF_UNIX, SOCK_STREAM, HERE,
     A_LONG},
    {HOOK(__recv_chk), 0, recv_chk_, AF_UNIX, SOCK_STREAM, HERE, A_LONG},
    {CALL(shutdown), shutdown_, AF_UNIX, SOCK_STREAM, HERE, AN_INT},
    {HOOK(poll), 0, poll_, 0, 0, HERE, AN_INT},
    {HOOK(__poll_chk), 0, poll_chk_, 0, 0, HERE, AN_INT},
    {HOOK(ppoll), 0, ppoll_, 0, 0, HERE, AN_INT},
    {HOOK(__ppoll_chk), 0, ppoll_chk_, 0, 0, HERE, AN_INT},
    {CALL(ioctl), ioctl_, 0, 0, HERE, AN_INT},
    {HOOK(open), 0, open_, 0, 0, HERE, AN_INT},
    {HOOK(open64), 0, open_, 0, 0, HERE, AN_INT},
    {CALL(openat), openat_, 0, 0, HERE, AN_INT},
    {HOOK(openat64), 0, openat_, 0, 0, HERE, AN_INT},
    {CALL(epoll_ctl), epoll_ctl_, AF_INET, SOCK_STREAM, HERE, AN_INT},
    {CALL(close), close_, AF_INET, SOCK_STREAM, HERE, AN_INT},
    {CALL(dup), close_, AF_INET, SOCK_STREAM, HERE, AN_INT},
    {HOOK(dup2), 0, dup2_, AF_INET, SOCK_STREAM, CHILD, AN_INT},
    {CALL(dup3), dup3_, AF_INET, SOCK_STREAM, CHILD, AN_INT},
    {CALL(fcntl), fcntl_, AF_INET, F_DUPFD, CHILD, AN_INT},
    {CALL(fcntl), fcntl_, AF_INET, F_GETLK, CHILD, AN_INT},
    {HOOK(fcntl64), 0, fcntl_, AF_INET, F_DUPFD_CLOEXEC, CHILD, AN_INT},
    {CALL(close_range), close_range_, 0, 0, CHILD, AN_INT},
    {HOOK(closefrom), 0, closefrom_, 0, 0, CHILD, NOTHING},
    {CALL(prctl), prctl_, 0, 0, CHILD, AN_INT},
    {"syscall", NULL, SYS_seccomp, seccomp_, 0, 0, CHILD, A_LONG},
    {"syscall", NULL, -1, no_call, 0, 0, HERE, A_LONG},
    {"syscall", NULL, INT_MAX, no_call, 0, 0, HERE, A_LONG},
    {"syscall", NULL, SYS_getppid, no_call, 0, 0, CHILD, A_LONG},
    {CALL(execve), exec_, 0, 0, PROGRAM, AN_INT},
    {HOOK(execv), 0, exec_, 0, 0, PROGRAM, AN_INT},
    {HOOK(execvp), 0, exec_, 0, 1, PROGRAM, AN_INT},
    {HOOK(execvpe), 0, exec_, 0, 1, PROGRAM, AN_INT},
    {HOOK(execl), 0, execl_, 0, 0, PROGRAM, AN_INT},
    {HOOK(execle), 0, execl_, 0, 0, PROGRAM, AN_INT},
    {HOOK(execlp), 0, execl_, 0, 1, PROGRAM, AN_INT},
    {HOOK(fexecve), 0, fexecve_, 0, 0, PROGRAM, AN_INT},
    {CALL(execveat), execveat_, 0, 0, PROGRAM, AN_INT},
    {CALL(execveat), execveat_, 0, 1, PROGRAM, AN_INT},
    {HOOK(posix_spawn), 0, posix_spawn_, 0, 0, PROGRAM, AN_INT},
    {HOOK(posix_spawnp), 0, posix_spawn_, 0, 1, PROGRAM, AN_INT},
    {HOOK(system), 0, system_, 0, 0, PROGRAM, AN_INT},
    {"popen", (void (*)(void))popen_and_close, 0, popen_, 0, 0, PROGRAM, A_LONG},
    {"wordexp", (void (*)(void))wordexp_and_free, 0, wordexp_, 0, 0, PROGRAM, A_LONG},
};

#endif
