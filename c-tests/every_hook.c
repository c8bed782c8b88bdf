// Every hooked call, each argument in turn as it should be and in every way
// that it should not: pointers to nothing, to the last bytes of a page, across
// its end; lengths too short, too long, negative; descriptors of something
// else. One line for each: what the call answered, errno, how much it wrote.
//
//     every_hook list             the calls that have a row in the table
//     every_hook calls [WHERE]    all rows but those that start programs;
//                                 the server on port 9999 is at WHERE
//     every_hook programs         those
//: driven
#include "check.h"
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

enum { PAGE = 4096, AREAS = 12, KNOBS = 24, FILLED = 0xa5 };

struct row;
static const struct row *current;
static const char *server;

// --- where arguments lie ---------------------------------------------------

// A hole, two pages, a hole, a page that cannot be written, a hole.
struct area {
    char *start, *end, *fixed;
};

static struct area areas[AREAS];
static int areas_used;

static void prepare_areas(void)
{
    for (int i = 0; i < AREAS; i++) {
        char *m = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(m == MAP_FAILED ? -1 : 0);
        must(mprotect(m, PAGE, PROT_NONE));
        must(mprotect(m + 3 * PAGE, PAGE, PROT_NONE));
        must(mprotect(m + 4 * PAGE, PAGE, PROT_READ));
        must(mprotect(m + 5 * PAGE, PAGE, PROT_NONE));
        areas[i] = (struct area){m + PAGE, m + 3 * PAGE, m + 4 * PAGE};
    }
}

// --- what can be turned ----------------------------------------------------

// Each argument, or field of one, is a knob. Setting 0 is as it should be. A
// knob is turned alone, and together with the knobs that it goes with.
static struct knob {
    int settings, pairs;
} knobs[KNOBS];
static int chosen[KNOBS], knob_count;
static char what[200];

enum { ALONE = 0, WITH_PREVIOUS = 1, WITH_ONE_BEFORE = 2 };

static int turn(int settings, int pairs)
{
    int k = knob_count++;
    must(k < KNOBS ? 0 : -1);
    knobs[k] = (struct knob){settings, pairs};
    return chosen[k];
}

__attribute__((format(printf, 1, 2))) static void mention(const char *format, ...)
{
    size_t n = strlen(what);
    va_list list;
    va_start(list, format);
    if (n > 0)
        n += (size_t)snprintf(what + n, sizeof what - n, ", ");
    vsnprintf(what + n, sizeof what - n, format, list);
    va_end(list);
}

enum place {
    GOOD, NIL, ONE, KERNEL, NOWHERE, UNMAPPED, BEHIND, LAST, CUT, ODD, ACROSS, READ_ONLY,
    PLACES, LONG = PLACES,
};
static const char *const places[] = {
    "", "null", "1", "the kernel's", "no address", "unmapped", "just behind", "last of the page",
    "cut by a hole", "odd", "across pages", "read only", "very long",
};

// Where the call wrote to, and how much.
static struct told {
    char *from, *end;
} told[4];
static int tellings;
static uint32_t *told_length;

static long lie(const char *name, const void *good, size_t size, int settings, int filled)
{
    int setting = turn(settings, ALONE);
    must(areas_used < AREAS ? 0 : -1);
    struct area *a = &areas[areas_used++];
    char *at = a->start + 64;
    size_t there = size;
    memset(a->start, filled, 2 * PAGE);
    if (setting != GOOD)
        mention("%s %s", name, places[setting]);
    switch (setting) {
    case NIL: return 0;
    case ONE: return 1;
    case KERNEL: return -PAGE;
    case NOWHERE: return 1L << 62;
    case UNMAPPED: return (long)(a->start - PAGE + 100);
    case BEHIND: return (long)a->end;
    case LAST: at = a->end - size; break;
    case CUT:
        there = size / 2;
        at = a->end - there;
        break;
    case ODD: at = a->start + 1; break;
    case ACROSS: at = a->start + PAGE - size / 2; break;
    case READ_ONLY:
        must(mprotect(a->fixed, PAGE, PROT_READ | PROT_WRITE));
        if (good)
            memcpy(a->fixed, good, size);
        must(mprotect(a->fixed, PAGE, PROT_READ));
        return (long)a->fixed;
    case LONG:
        memset(a->start, 'x', 2 * PAGE - 1);
        a->end[-1] = 0;
        return (long)a->start;
    }
    if (good)
        memcpy(at, good, there);
    if (filled)
        told[tellings++] = (struct told){at, a->end};
    return (long)at;
}

// Something that the call reads.
static long in(const char *name, const void *good, size_t size)
{
    return lie(name, good, size, PLACES, 0);
}

static long string(const char *name, const char *good)
{
    return lie(name, good, strlen(good) + 1, PLACES + 1, 0);
}

// A list of one string.
static long strings(const char *name, const char *good)
{
    char element[32];
    snprintf(element, sizeof element, "%s[0]", name);
    long list[2] = {string(element, good), 0};
    return in(name, list, sizeof list);
}

// Something that the call writes.
static long out(const char *name, size_t size) { return lie(name, NULL, size, PLACES, FILLED); }

static long of(const char *name, long good, const long *others, int count, int pairs)
{
    int setting = turn(count + 1, pairs);
    if (setting == 0)
        return good;
    mention("%s %ld", name, others[setting - 1]);
    return others[setting - 1];
}

static long number(const char *name, long good)
{
    static const long others[] = {-1, 0, INT_MAX, INT_MIN, 0x7000};
    return of(name, good, others, COUNT(others), ALONE);
}

// The length of what the knob before it points to.
static long length(size_t good)
{
    long g = (long)good, others[] = {0, 1, 2, g - 1, g + 1, 110, 128, 129, 3 * PAGE, -1, INT_MIN};
    return of("length", g, others, COUNT(others), WITH_PREVIOUS);
}

// A pointer to the length of what the knob before it points to.
static long length_at(uint32_t good)
{
    static const long others[] = {0, 1, 2, 8, 15, 17, 110, 128, 3 * PAGE, -1, INT_MIN};
    uint32_t value = (uint32_t)of("*length", good, others, COUNT(others), WITH_PREVIOUS);
    long at = in("length", &value, sizeof value);
    knobs[knob_count - 1].pairs = WITH_PREVIOUS;
    int setting = chosen[knob_count - 1];
    if (setting == GOOD || setting == LAST || setting == ODD || setting == ACROSS)
        told_length = (uint32_t *)at;
    return at;
}

static int pipe_end, path_only, poller;

static long descriptor(int (*make)(void))
{
    static const int others[] = {-1, -100, 999, 1000000, INT_MAX, INT_MIN};
    static const char *const kinds[] = {"a pipe", "O_PATH", "an epoll instance"};
    int kind_of[] = {pipe_end, path_only, poller};
    int setting = turn(1 + COUNT(others) + COUNT(kinds), ALONE) - 1;
    if (setting < 0)
        return make();
    if (setting < (int)COUNT(others)) {
        mention("descriptor %d", others[setting]);
        return others[setting];
    }
    setting -= COUNT(others);
    mention("descriptor is %s", kinds[setting]);
    return must(dup(kind_of[setting]));
}

// --- the rows --------------------------------------------------------------

struct row {
    const char *name;
    void (*hook)(void);
    long number;                // as a system call; 0 if it is none
    void (*arguments)(long *);
    int family, type;
    enum { HERE, CHILD, PROGRAM } where;
    enum { AN_INT, A_LONG, NOTHING } answer;
};

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
    {CALL(sendto), sendto_, AF_INET, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendto), sendto_, AF_INET6, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendto), sendto_, AF_UNIX, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendmsg), sendmsg_, AF_INET, SOCK_DGRAM, HERE, A_LONG},
    {CALL(sendmsg), sendmsg_, AF_UNIX, SOCK_STREAM, HERE, A_LONG},
    {CALL(sendmmsg), sendmmsg_, AF_INET, SOCK_DGRAM, HERE, AN_INT},
    {CALL(recvmsg), recvmsg_, AF_UNIX, SOCK_STREAM, HERE, A_LONG},
    {CALL(recvmmsg), recvmmsg_, AF_UNIX, SOCK_STREAM, HERE, AN_INT},
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
};

// --- one call --------------------------------------------------------------

static struct answer {
    int done, error, spawned;
    long value;
} *answer;

static sigjmp_buf crashed;

static void on_crash(int signal) { siglongjmp(crashed, signal); }

typedef long (*six)(long, long, long, long, long, long);

static void call(int raw, const long *a)
{
    errno = 4242;
    long value;
    if (raw)
        value = syscall(current->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    else
        value = ((six)current->hook)(a[0], a[1], a[2], a[3], a[4], a[5]);
    answer->error = errno;
    answer->value = raw || current->answer == A_LONG ? value
                    : current->answer == AN_INT ? (int)value : 0;
    answer->done = 1;
}

static void call_in_child(int raw, const long *a)
{
    pid_t child = must(fork());
    int status;
    if (child == 0) {
        static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL};
        for (unsigned i = 0; i < COUNT(deadly); i++)
            signal(deadly[i], SIG_DFL);
        if (current->arguments == prctl_ || current->arguments == seccomp_)
            must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        call(raw, a);
        if (current->number == SYS_getppid)
            answer->value = answer->value > 0;
        if (current->arguments == posix_spawn_ && wait(&status) > 0)
            answer->spawned = 1 + status;
        _exit(0);
    }
    must(waitpid(child, &status, 0));
    if (!answer->done)
        mention(WIFEXITED(status) ? "replaced: exit %d" : "signal %d",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static void one(int raw, int first_free)
{
    long a[6] = {0};
    char said[300];
    knob_count = areas_used = tellings = 0;
    told_length = NULL;
    what[0] = 0;
    memset(answer, 0, sizeof *answer);
    unlink("socket");
    current->arguments(a);
    if (!what[0])
        mention("as it should be");
    size_t arguments_told = strlen(what);
    int n = snprintf(said, sizeof said, "%s%s %d %d: %s: ", raw ? "syscall " : "", current->name,
                     current->family, current->type, what);
    if (current->where != HERE) {
        call_in_child(raw, a);
    } else {
        int signal = sigsetjmp(crashed, 1);
        if (signal == 0)
            call(raw, a);
        else
            mention("signal %d", signal);
    }
    if (!answer->done) {
        n += snprintf(said + n, sizeof said - (size_t)n, "%s", what + arguments_told + 2);
    } else if (answer->value == -1) {
        const char *name = strerrorname_np(answer->error);
        n += snprintf(said + n, sizeof said - (size_t)n, "%s", name ? name : "an unknown errno");
    } else {
        n += snprintf(said + n, sizeof said - (size_t)n, "%ld, errno %s", answer->value,
                      answer->error == 4242 ? "kept" : strerrorname_np(answer->error));
    }
    for (int i = 0; i < tellings && current->where == HERE; i++) {
        char *end = told[i].end;
        while (end > told[i].from && (unsigned char)end[-1] == FILLED)
            end--;
        n += snprintf(said + n, sizeof said - (size_t)n, ", %ld written", (long)(end - told[i].from));
    }
    // What is told of a call that failed differs from kernel to kernel.
    if (told_length && answer->done && answer->value != -1) {
        uint32_t value;
        memcpy(&value, told_length, sizeof value);
        n += snprintf(said + n, sizeof said - (size_t)n, ", length %u", value);
    }
    if (answer->spawned)
        snprintf(said + n, sizeof said - (size_t)n, ", status %d", answer->spawned - 1);
    puts(said);
    close_range((unsigned)first_free, ~0U, 0);
    for (int fd; (fd = accept(other_listener, NULL, NULL)) >= 0;)
        close(fd);
    for (int fd; (fd = accept(unix_listener, NULL, NULL)) >= 0;)
        close(fd);
}

static void every_turn(int raw, int first_free)
{
    memset(chosen, 0, sizeof chosen);
    one(raw, first_free);
    int count = knob_count;
    for (int k = 0; k < count; k++) {
        int settings = knobs[k].settings, pairs = knobs[k].pairs;
        for (chosen[k] = 1; chosen[k] < settings; chosen[k]++) {
            one(raw, first_free);
            for (int back = 1; back <= 2; back++) {
                if (!(pairs & back))
                    continue;
                int other = k - back, others = knobs[other].settings;
                for (chosen[other] = 1; chosen[other] < others; chosen[other]++)
                    one(raw, first_free);
                chosen[other] = 0;
            }
        }
        chosen[k] = 0;
    }
}

static void prepare(void)
{
    static char stack[65536];
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL};
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_NODEFER};
    struct rlimit none = {0, 0};
    must(setrlimit(RLIMIT_CORE, &none));
    must(sigaltstack(&alternate, NULL));
    for (unsigned i = 0; i < COUNT(deadly); i++)
        must(sigaction(deadly[i], &action, NULL));
    signal(SIGPIPE, SIG_IGN);
    prepare_areas();
    answer = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(answer == MAP_FAILED ? -1 : 0);

    in4 = ip("127.0.0.1", 8080);
    in6 = ip("::1", 8080);
    other_in4 = ip("127.0.0.1", 9998);
    un.un.sun_family = un_listener.un.sun_family = AF_UNIX;
    strcpy(un.un.sun_path, "socket");
    un.length = offsetof(struct sockaddr_un, sun_path) + sizeof "socket";
    strcpy(un_listener.un.sun_path, "listener");
    un_listener.length = offsetof(struct sockaddr_un, sun_path) + sizeof "listener";

    int pipes[2];
    must(pipe(pipes));
    pipe_end = pipes[0];
    path_only = must(open(".", O_PATH));
    poller = must(epoll_create1(0));
    listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 9999));
    must(listen(listener, 64));
    client_of(9999, server);
    connected = must(accept(listener, NULL, NULL));
    other_listener = tcp();
    must(bind(other_listener, &other_in4.any, other_in4.length));
    must(listen(other_listener, 64));
    unix_listener = must(socket(AF_UNIX, SOCK_STREAM, 0));
    must(bind(unix_listener, &un_listener.any, un_listener.length));
    must(listen(unix_listener, 64));
    int listeners[] = {listener, other_listener, unix_listener};
    for (unsigned i = 0; i < COUNT(listeners); i++)
        must(fcntl(listeners[i], F_SETFL, O_NONBLOCK));
}

int main(int argc, char **argv)
{
    // What an exec row started.
    if (argc < 2)
        return 42;
    if (strcmp(argv[1], "list") == 0) {
        for (unsigned i = 0; i < COUNT(rows); i++)
            puts(rows[i].name);
        return 0;
    }
    int programs = strcmp(argv[1], "programs") == 0;
    server = argc > 2 ? argv[2] : NULL;
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    prepare();
    int first_free = must(dup(0));
    for (unsigned i = 0; i < COUNT(rows); i++) {
        current = &rows[i];
        if ((current->where == PROGRAM) != programs)
            continue;
        if (current->hook)
            every_turn(0, first_free);
        if (current->number)
            every_turn(1, first_free);
    }
}
