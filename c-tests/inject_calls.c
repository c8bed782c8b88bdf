// Every hooked call, one a line: its result, and how many calls reached the
// library behind bindgate (count_calls.c). In the main thread, in a forked
// child, in a thread, or in a signal handler on an alternate stack.
//: driven
#include "vsock.h"
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

extern char **environ;
static long (*counted)(void);

#define STEP(name, call)                                                              \
    do {                                                                              \
        counted();                                                                    \
        errno = 0;                                                                    \
        long result_ = (long)(call);                                                  \
        int e_ = errno;                                                               \
        printf("%s: %s, %ld forwarded\n", name, result_ < 0 ? strerrorname_np(e_) : "ok", \
               counted());                                                            \
        fflush(stdout);                                                               \
    } while (0)

// The same for a call that replaces the process: in a child.
#define EXEC_STEP(name, how, call)               \
    do {                                         \
        counted();                               \
        pid_t child_ = how();                    \
        if (child_ == 0) {                       \
            call;                                \
            _exit(errno);                        \
        }                                        \
        int status_ = 0;                         \
        waitpid(child_, &status_, 0);            \
        printf("%s: status %d, %ld forwarded\n", name, status_, counted()); \
        fflush(stdout);                          \
    } while (0)

static int spawned(int error, pid_t pid)
{
    int status = 0;
    if (error == 0)
        waitpid(pid, &status, 0);
    errno = error;
    return error || status ? -1 : 0;
}

static int any_tcp(void) { return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); }

// A socket for the call that is to be counted.
static int fresh(int fd)
{
    counted();
    return fd;
}

// A client of 127.0.0.1:8090, which may be the Unix socket instead.
static int client_8090(void)
{
    struct address a = {.un = {.sun_family = AF_UNIX, .sun_path = "sock"},
                        .length = sizeof a.un};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, &a.any, a.length) == 0)
        return fd;
    close(fd);
    fd = any_tcp();
    connect_ip(fd, "127.0.0.1", 8090);
    return fd;
}

static void creating(void)
{
    int pair[2];
    STEP("socket", any_tcp());
    STEP("socket refused", socket(AF_NETLINK, SOCK_RAW, 0));
    STEP("socket of no family", socket(99, SOCK_STREAM, 0));
    STEP("raw socket", syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    STEP("socketpair", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    STEP("socketpair refused", socketpair(AF_NETLINK, SOCK_RAW, 0, pair));
}

static void binding(void)
{
    int one = 1;
    STEP("bind", bind_ip(fresh(any_tcp()), "127.0.0.1", 8070));
    STEP("bind to port 0", bind_ip(fresh(any_tcp()), "127.0.0.1", 0));
    STEP("bind refused", bind_ip(fresh(any_tcp()), "127.0.0.1", 8071));
    STEP("bind hidden", bind_ip(fresh(any_tcp()), "127.0.0.1", 8072));
    STEP("bind to a foreign address", bind_ip(fresh(any_tcp()), "192.0.2.1", 8073));
    STEP("bind a bad pointer", bind(fresh(any_tcp()), (struct sockaddr *)8, 16));
    struct address a = ip("127.0.0.1", 8074);
    STEP("raw bind", syscall(SYS_bind, fresh(any_tcp()), &a.any, a.length));
    int moved = any_tcp();
    STEP("bind moved", bind_ip(moved, "127.0.0.1", 8080));
    STEP("setsockopt", setsockopt(moved, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    socklen_t length = sizeof one;
    STEP("getsockopt", getsockopt(moved, SOL_SOCKET, SO_REUSEADDR, &one, &length));
    a.length = sizeof a.storage;
    STEP("getsockname", getsockname(moved, &a.any, &a.length));
    a.length = sizeof a.storage;
    STEP("getpeername", getpeername(moved, &a.any, &a.length));
}

static void listening(void)
{
    int bound = any_tcp(), moved = any_tcp(), one = 1;
    setsockopt(bound, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bind_ip(bound, "127.0.0.1", 8060);
    STEP("listen", listen(bound, 8));
    STEP("listen on no port", listen(fresh(any_tcp()), 8));
    STEP("listen refused", (bind_ip(moved, "127.0.0.1", 8061), counted(), listen(moved, 8)));
    struct address a = {.length = sizeof a.storage};
    connect_ip(any_tcp(), "127.0.0.1", 8060);
    STEP("accept", accept(bound, &a.any, &a.length));
    connect_ip(any_tcp(), "127.0.0.1", 8060);
    a.length = sizeof a.storage;
    STEP("accept4", accept4(bound, &a.any, &a.length, SOCK_CLOEXEC));
    // One that became a Unix socket.
    int replaced = any_tcp();
    bind_ip(replaced, "127.0.0.1", 8090);
    listen(replaced, 8);
    client_8090();
    a.length = sizeof a.storage;
    STEP("accept from a replaced socket", accept(replaced, &a.any, &a.length));
    client_8090();
    a.length = sizeof a.storage;
    STEP("accept4 from a replaced socket", accept4(replaced, &a.any, &a.length, 0));
    STEP("an option of the family", setsockopt(replaced, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    socklen_t length = sizeof one;
    STEP("that option back", getsockopt(replaced, IPPROTO_TCP, TCP_NODELAY, &one, &length));
    STEP("connect refused by a rule", connect_ip(fresh(any_tcp()), "127.0.0.1", 8062));
    // Without the rule nobody is there, which the non-blocking client learns later.
    int client = any_tcp();
    STEP("connect moved", connect_ip(client, "127.0.0.1", 8063));
    int other = socket(AF_INET, SOCK_STREAM, 0);
    connect_ip(other, "127.0.0.1", 8060);
    a.length = sizeof a.storage;
    STEP("getpeername of a client", getpeername(other, &a.any, &a.length));
}

static void sending(void)
{
    struct address to = ip("127.0.0.1", 8050);
    char byte = 'x';
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_name = &to, .msg_namelen = to.length, .msg_iov = &io, .msg_iovlen = 1};
    struct mmsghdr many = {.msg_hdr = m};
    STEP("sendto", sendto(fresh(udp()), "x", 1, 0, &to.any, to.length));
    STEP("sendmsg", sendmsg(fresh(udp()), &m, 0));
    STEP("sendmmsg", sendmmsg(fresh(udp()), &many, 1, 0));
    STEP("connect", connect_ip(fresh(udp()), "127.0.0.1", 8050));
    int six = socket(AF_INET6, SOCK_DGRAM, 0);
    struct address to6 = ip("::1", 8050);
    STEP("sendto refused", sendto(six, "x", 1, 0, &to6.any, to6.length));
    STEP("connect refused", connect_ip(six, "::1", 8050));
}

// What a run with ports of its own is told in other words.
static void naming(void)
{
    int fd = udp(), only = 0;
    struct address own = ip("127.0.0.1", 0);
    char byte;
    bind(fd, &own.any, own.length);
    getsockname(fd, &own.any, &own.length);
    sendto(fd, "x", 1, 0, &own.any, own.length);
    STEP("recvfrom", recvfrom(fd, &byte, 1, MSG_DONTWAIT, &own.any, &own.length));
    close(fd);
    int six = socket(AF_INET6, SOCK_STREAM, 0);
    socklen_t length = sizeof only;
    STEP("getsockopt v6only", getsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &only, &length));
    close(six);
}

static void copying(void)
{
    int pair[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    char byte;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(64)];
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1,
                       .msg_control = control, .msg_controllen = sizeof control};
    struct mmsghdr many = {.msg_hdr = m};
    send_fd(pair[0], 0);
    STEP("recvmsg", recvmsg(pair[1], &m, 0));
    send_fd(pair[0], 0);
    STEP("recvmmsg", recvmmsg(pair[1], &many, 1, 0, NULL));
    int fd = any_tcp();
    STEP("dup", dup(fd));
    STEP("dup2", dup2(fd, 200));
    STEP("dup3", dup3(fd, 201, O_CLOEXEC));
    STEP("fcntl", fcntl(fd, F_DUPFD, 100));
    STEP("close", close(fd));
    STEP("close again", close(fd));
    STEP("close_range", close_range(200, 300, 0));
    STEP("closefrom", (closefrom(300), 0));
    struct epoll_event event = {.events = EPOLLIN};
    int ep = epoll_create1(0);
    STEP("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, pair[0], &event));
}

static void executing(void)
{
    char *args[] = {"true", NULL};
    EXEC_STEP("execve", fork, execve("/bin/true", args, environ));
    char *empty[] = {NULL};
    EXEC_STEP("execve, no environment", fork, execve("/bin/true", args, empty));
    EXEC_STEP("execve of nothing", fork, execve("/bin/nothing", args, environ));
    EXEC_STEP("vfork and execv", vfork, execv("/bin/true", args));
    EXEC_STEP("execvp", fork, execvp("true", args));
    EXEC_STEP("execvpe", fork, execvpe("true", args, environ));
    EXEC_STEP("execl", fork, execl("/bin/true", "true", NULL));
    EXEC_STEP("execle", fork, execle("/bin/true", "true", NULL, environ));
    EXEC_STEP("execlp", fork, execlp("true", "true", NULL));
    EXEC_STEP("raw execve", fork, syscall(SYS_execve, "/bin/true", args, environ));
    int file = open("/bin/true", O_RDONLY);
    EXEC_STEP("fexecve", fork, fexecve(file, args, environ));
    EXEC_STEP("execveat", fork, execveat(file, "", args, environ, AT_EMPTY_PATH));
    pid_t pid = -1;
    int error;
    STEP("system", system("true"));
    STEP("posix_spawn", (error = posix_spawn(&pid, "/bin/true", NULL, NULL, args, environ),
                         spawned(error, pid)));
    STEP("posix_spawnp", (error = posix_spawnp(&pid, "true", NULL, NULL, args, environ),
                          spawned(error, pid)));
}

// Last: afterwards the hooks ask nothing any more, and nobody opens a file.
static void filtering(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    STEP("prctl", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    STEP("raw seccomp", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    STEP("bind under a filter", bind_ip(fresh(any_tcp()), "127.0.0.1", 8040));
    STEP("bind under a filter refused", bind_ip(fresh(any_tcp()), "127.0.0.1", 8041));
}

// Two ends of a connection, where the run is a vsock host.
static void join_vsock(int ends[2])
{
    if (!getenv("VSOCK_HOST"))
        return;
    int listener = socket(AF_VSOCK, SOCK_SEQPACKET, 0);
    bind_vm(listener, VMADDR_CID_ANY, VMADDR_PORT_ANY);
    listen(listener, 1);
    union vm_name at;
    socklen_t length = sizeof at;
    if (getsockname(listener, &at.any, &length) == 0 && at.any.sa_family == AF_VSOCK) {
        ends[0] = socket(AF_VSOCK, SOCK_SEQPACKET, 0);
        connect_vm(ends[0], VMADDR_CID_LOCAL, at.vm.svm_port);
        ends[1] = accept(listener, NULL, NULL);
    }
    close(listener);
}

// What a Unix socket answers otherwise than a vsock one.
static void hosting(void)
{
    char byte = 'x';
    struct timespec at_once = {0, 0};
    int alone = socket(AF_VSOCK, SOCK_STREAM, 0), ends[2] = {-1, -1}, four = 4;
    struct pollfd entry = {alone, POLLIN | POLLOUT, 0};
    STEP("vsock poll", poll(&entry, 1, 0));
    STEP("vsock ppoll", ppoll(&entry, 1, &at_once, NULL));
    STEP("vsock recv", recv(alone, &byte, 1, MSG_DONTWAIT));
    STEP("vsock shutdown", shutdown(alone, SHUT_RDWR));
    STEP("vsock open", open("/dev/none", O_RDONLY | O_CLOEXEC));
    int device = open("/dev/null", O_RDONLY | O_CLOEXEC);
    unsigned cid = 0;
    STEP("vsock ioctl", ioctl(device, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid));
    join_vsock(ends);
    union vm_name from;
    socklen_t length = sizeof from;
    STEP("vsock send", send(ends[0], "x", 1, MSG_EOR | MSG_NOSIGNAL));
    STEP("vsock recvfrom", recvfrom(ends[1], &byte, 1, MSG_DONTWAIT, &from.any, &length));
    send(ends[0], "x", 1, MSG_EOR | MSG_NOSIGNAL);
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &io, .msg_iovlen = 1};
    STEP("vsock recvmsg", recvmsg(ends[1], &m, MSG_DONTWAIT));
    setsockopt(ends[1], SOL_SOCKET, SO_RCVLOWAT, &four, sizeof four);
    send(ends[0], "x", 1, MSG_NOSIGNAL);
    entry = (struct pollfd){ends[1], POLLIN, 0};
    STEP("vsock poll for more", poll(&entry, 1, 0));
    close(alone);
    close(device);
    close(ends[0]);
    close(ends[1]);
}

static void every_call(int unused)
{
    (void)unused;
    creating();
    binding();
    listening();
    sending();
    naming();
    hosting();
    copying();
    executing();
    filtering();
}

static void *in_thread(void *unused)
{
    every_call(0);
    return unused;
}

int main(int argc, char **argv)
{
    const char *where = argc > 1 ? argv[1] : "main";
    counted = (long (*)(void))dlsym(RTLD_DEFAULT, "counted");
    must(counted ? 0 : -1);
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(where, "child")) {
        pid_t child = must(fork());
        if (child == 0) {
            every_call(0);
            return 0;
        }
        wait_for(child);
    } else if (!strcmp(where, "thread")) {
        pthread_t thread;
        must(-pthread_create(&thread, NULL, in_thread, NULL));
        pthread_join(thread, NULL);
    } else if (!strcmp(where, "signal")) {
        size_t size = (size_t)atoi(argv[2]);
        char *memory = mmap(NULL, size + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(mprotect(memory + 4096, size, PROT_READ | PROT_WRITE));
        must(sigaltstack(&(stack_t){.ss_sp = memory + 4096, .ss_size = size}, NULL));
        must(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = every_call, .sa_flags = SA_ONSTACK}, NULL));
        raise(SIGUSR1);
    } else {
        every_call(0);
    }
    puts("end");
    return 0;
}
