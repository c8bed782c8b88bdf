// A child that lives as a browser's do: in namespaces of its own where it can,
// in an empty root, without capabilities, behind a filter that lets it speak
// and listen, traps what would open or bind something, and kills on the rest.
// Its SIGSYS handler asks a broker, who passes descriptors back.
//: unemulated QEMU refuses filters
//: case deny something else
//: rule deny bind tcp *:9999
//: rule deny socket packet
//: same
//: case deny in the child
//: rule deny bind tcp *:80
//: stdout child: its socket: ok
//: stdout child: a port of the sandbox: EACCES
//: case deny in the child, counted
//: only run
//: rule deny bind tcp *:80
//: stdout child: its socket: ok
//: stdout child: a port of the sandbox: EACCES
//: log 1 deny bind
//: case move what the broker binds
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080
//: same
//: log 1 move bind
#include "filter.h"
#include <linux/capability.h>
#include <sched.h>
#include <ucontext.h>

// What the child's calls become: a message to the broker. The answer is a
// result, and a descriptor if that is not negative.
struct question {
    long number;
    char path[64];
};

static int broker;

static void answer(int to, long result, int fd)
{
    must(send(to, &result, sizeof result, 0));
    if (result >= 0)
        send_fd(to, fd);
}

static long ask(long number, const char *path)
{
    struct question q = {.number = number};
    if (path)
        strncpy(q.path, path, sizeof q.path - 1);
    long result;
    must(send(broker, &q, sizeof q, 0));
    must(recv(broker, &result, sizeof result, 0));
    return result < 0 ? result : receive_fd(broker);
}

static void trapped(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    ucontext_t *at = context;
#if defined(__x86_64__)
    long a = at->uc_mcontext.gregs[REG_RDI], b = at->uc_mcontext.gregs[REG_RSI];
#else
    long a = (long)at->uc_mcontext.regs[0], b = (long)at->uc_mcontext.regs[1];
#endif
    long result = -ENOSYS;
    switch (info->si_syscall) {
    case SYS_openat:
        result = ask(SYS_openat, (const char *)b);
        break;
    case SYS_socket:
        result = ask(SYS_socket, NULL);
        break;
    case SYS_bind: {
        // A bound socket comes, and takes the other one's place.
        int fd = (int)ask(SYS_bind, NULL);
        result = fd;
        if (fd >= 0) {
            result = dup2(fd, (int)a) < 0 ? -errno : 0;
            close(fd);
        }
        break;
    }
    }
#if defined(__x86_64__)
    at->uc_mcontext.gregs[REG_RAX] = result;
#else
    at->uc_mcontext.regs[0] = (unsigned long)result;
#endif
}

#define TRAP(number) ON(number, SECCOMP_RET_TRAP)

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof none);
    must(syscall(SYS_capset, &header, none));
}

static void install_filter(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_open
        TRAP(SYS_open),
#endif
        TRAP(SYS_openat),
        TRAP(SYS_socket),
        TRAP(SYS_bind),
        ALLOW(SYS_sendto),
        ALLOW(SYS_sendmsg),
        ALLOW(SYS_recvfrom),
        ALLOW(SYS_recvmsg),
        ALLOW(SYS_listen),
        ALLOW(SYS_accept),
        ALLOW(SYS_read),
        ALLOW(SYS_write),
#ifdef SYS_dup2
        ALLOW(SYS_dup2),
#endif
        ALLOW(SYS_dup3),
        ALLOW(SYS_close),
        ALLOW(SYS_rt_sigreturn),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static void child(void)
{
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER};
    must(sigaction(SIGSYS, &action, NULL));
    setvbuf(stdout, NULL, _IONBF, 0);
    install_filter();

    int fd = say("child: its socket", socket(AF_INET, SOCK_STREAM, 0));
    // The broker decides which port that is outside.
    if (say("child: a port of the sandbox", bind_ip(fd, "127.0.0.1", 80)) < 0)
        _exit(0);
    say("child: bound anew", bind_ip(fd, "127.0.0.1", 81));
    say("child: listen", listen(fd, 1));
    must(send(broker, &(struct question){.number = SYS_listen}, sizeof(struct question), 0));
    struct address from = {.length = sizeof from.storage};
    int client = say("child: accept", accept(fd, &from.any, &from.length));
    printf("child: a client of family %d\n", from.any.sa_family);
    char text[32] = "";
    must(read(client, text, sizeof text - 1));
    printf("child: it says %s\n", text);
    must(write(client, "hello", 5));
    int file = say("child: open", open("/file", O_RDONLY));
    memset(text, 0, sizeof text);
    must(read(file, text, sizeof text - 1));
    printf("child: in the file is %s\n", text);
    say("child: open what is not there", open("/etc/passwd", O_RDONLY));
    _exit(0);
}

// Serves the child until it ends; `where` its server may have been moved to.
static void serve(int with, const char *where)
{
    struct question q;
    int client = -1, binds = 0;
    while (recv(with, &q, sizeof q, 0) == sizeof q) {
        int fd = -1;
        switch (q.number) {
        case SYS_openat:
            fd = strcmp(q.path, "/file") == 0 ? open("file", O_RDONLY | O_CLOEXEC) : -1;
            answer(with, fd < 0 ? -ENOENT : 0, fd);
            break;
        case SYS_socket:
            fd = tcp();
            answer(with, 0, fd);
            break;
        case SYS_bind:
            fd = tcp();
            if (binds++ == 0) {
                must(bind_ip(fd, "127.0.0.1", 8080));
                answer(with, 0, fd);
            } else {
                answer(with, -EINVAL, -1);
            }
            break;
        case SYS_listen:
            client = client_of(8080, where);
            must(write(client, "hi", 2));
            break;
        }
        if (fd >= 0)
            close(fd);
    }
    char text[32] = "";
    if (client >= 0) {
        must(read(client, text, sizeof text - 1));
        printf("parent: the child says %s\n", text);
    }
}

int main(int argc, char **argv)
{
    must(mkdir("empty", 0755));
    int file = must(open("file", O_WRONLY | O_CREAT | O_TRUNC, 0644));
    must(write(file, "content", 7));
    close(file);
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    long flags = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | SIGCHLD;
    pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
    int caged = pid >= 0;
    if (!caged)
        pid = must(fork());
    if (pid == 0) {
        close(pair[0]);
        broker = pair[1];
        // Needs a privilege, which the user of a name space of its own has.
        if (caged || geteuid() == 0)
            must(chroot("empty") < 0 ? -1 : chdir("/"));
        drop_capabilities();
        child();
    }
    close(pair[1]);
    serve(pair[0], argc > 1 ? argv[1] : NULL);
    wait_for(pid);
    return 0;
}
