// Makes the calls that another process asks for, by libc's functions, and tells what
// came of each: the answer, the names of the socket and of its peer, and its options.
// Each argument is one process, `FD:UID:CAPABILITIES`: the socket that it is asked by,
// the user that it becomes, and which of CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and
// CAP_NET_RAW it keeps; -1 for "as it is". For c-tests/run/random.
//: driven
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SOCKET, SET, BIND, LISTEN, CONNECT, ACCEPT, SHUTDOWN, CLOSE, DUP, FILE_, GIVE, TAKE, SEND,
       RECEIVE, GET, PID, END };

struct request {
    int32_t op, fd, a, b, c;
    uint32_t len;
    unsigned char data[256];
};

struct name {
    uint32_t len;
    unsigned char bytes[128];
};

struct answer {
    int32_t ret, error, value;
    // SO_REUSEADDR, SO_REUSEPORT, IPV6_V6ONLY, SO_ACCEPTCONN; -1 where there is none.
    int32_t options[4];
    struct name name, peer, from;
};

static int door[2];

static void fail(const char *what)
{
    perror(what);
    exit(3);
}

static void become(int uid, int caps)
{
    if (uid > 0) {
        gid_t none[1];
        if (syscall(SYS_setgroups, 0, none) || prctl(PR_SET_KEEPCAPS, 1)
            || syscall(SYS_setresgid, uid, uid, uid) || syscall(SYS_setresuid, uid, uid, uid))
            fail("another user");
    }
    if (caps >= 0) {
        static const int bits[] = {10, 12, 13};
        struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct data[2];
        if (syscall(SYS_capget, &head, data))
            fail("capget");
        uint32_t wanted = uid > 0 ? 0 : data[0].permitted;
        for (int i = 0; i < 3; i++)
            wanted = caps >> i & 1 ? wanted | 1u << bits[i] : wanted & ~(1u << bits[i]);
        if (uid > 0)
            data[1].permitted = 0;
        data[0].permitted = data[0].effective = wanted;
        data[1].effective = data[1].permitted;
        data[0].inheritable = data[1].inheritable = 0;
        if (syscall(SYS_capset, &head, data))
            fail("capset");
    }
}

static int on_door(int fd, int sends)
{
    char byte = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                         .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    if (sends) {
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
        return sendmsg(door[0], &msg, 0) < 0 ? -1 : 0;
    }
    if (recvmsg(door[1], &msg, MSG_CMSG_CLOEXEC) < 0)
        return -1;
    head = CMSG_FIRSTHDR(&msg);
    if (!head)
        return errno = EBADF, -1;
    memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return fd;
}

static int send_one(const struct request *r)
{
    // MSG_DONTWAIT and MSG_NOSIGNAL: a full queue and a closed end are answers.
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    unsigned char byte = r->b;
    const void *to = r->len ? r->data : 0;
    struct iovec iov = {&byte, 1};
    struct mmsghdr one = {.msg_hdr = {.msg_name = (void *)to, .msg_namelen = r->len, .msg_iov = &iov,
                                      .msg_iovlen = 1}};
    switch (r->a) {
    case 0:
        return r->len ? sendto(r->fd, &byte, 1, flags, to, r->len) : send(r->fd, &byte, 1, flags);
    case 1:
        return sendmsg(r->fd, &one.msg_hdr, flags);
    default:
        return sendmmsg(r->fd, &one, 1, flags) < 0 ? -1 : (int)one.msg_len;
    }
}

static int receive_one(const struct request *r, struct answer *a)
{
    unsigned char byte = 0;
    struct iovec iov = {&byte, 1};
    struct mmsghdr one = {.msg_hdr = {.msg_name = a->from.bytes, .msg_namelen = sizeof a->from.bytes,
                                      .msg_iov = &iov, .msg_iovlen = 1}};
    int ret;
    socklen_t len = sizeof a->from.bytes;
    switch (r->a) {
    case 0:
        ret = recv(r->fd, &byte, 1, MSG_DONTWAIT);
        len = 0;
        break;
    case 1:
        ret = recvfrom(r->fd, &byte, 1, MSG_DONTWAIT, (void *)a->from.bytes, &len);
        break;
    case 2:
        ret = recvmsg(r->fd, &one.msg_hdr, MSG_DONTWAIT);
        len = one.msg_hdr.msg_namelen;
        break;
    default:
        ret = recvmmsg(r->fd, &one, 1, MSG_DONTWAIT, 0);
        ret = ret < 0 ? -1 : (int)one.msg_len;
        len = one.msg_hdr.msg_namelen;
    }
    a->value = byte;
    a->from.len = ret < 0 ? 0 : len;
    return ret;
}

static int connect_one(const struct request *r)
{
    // Who never answers is EINPROGRESS after a while, a full queue EAGAIN at once.
    struct timeval wait = {0, r->a};
    int is_unix = r->len > 0 && r->data[0] == AF_UNIX;
    setsockopt(r->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (is_unix)
        fcntl(r->fd, F_SETFL, O_NONBLOCK);
    int ret = connect(r->fd, (const void *)r->data, r->len), error = errno;
    if (is_unix)
        fcntl(r->fd, F_SETFL, 0);
    return errno = error, ret;
}

static int accept_one(const struct request *r, struct answer *a)
{
    socklen_t len = sizeof a->from.bytes;
    struct sockaddr *from = (void *)a->from.bytes;
    fcntl(r->fd, F_SETFL, O_NONBLOCK);
    int ret = r->a ? accept4(r->fd, from, &len, SOCK_CLOEXEC) : accept(r->fd, from, &len), error = errno;
    fcntl(r->fd, F_SETFL, 0);
    a->from.len = ret < 0 ? 0 : len;
    return errno = error, ret;
}

static int call(const struct request *r, struct answer *a)
{
    socklen_t len = 4;
    switch (r->op) {
    case SOCKET:
        return socket(r->a, r->b | SOCK_CLOEXEC, r->c);
    case SET: {
        // SO_ATTACH_REUSEPORT_CBPF: one instruction, `return 0`.
        uint16_t code[4] = {6};
        struct { uint16_t len; void *code; } program = {1, code};
        if (r->a == SOL_SOCKET && r->b == 51)
            return setsockopt(r->fd, r->a, r->b, &program, sizeof program);
        return setsockopt(r->fd, r->a, r->b, r->data, r->len);
    }
    case BIND:
        // Page 0 is nobody's.
        return bind(r->fd, (const void *)(r->b ? (uintptr_t)8 : (uintptr_t)r->data), r->a);
    case LISTEN:
        return listen(r->fd, r->a);
    case CONNECT:
        return connect_one(r);
    case ACCEPT:
        return accept_one(r, a);
    case SHUTDOWN:
        return shutdown(r->fd, r->a);
    case CLOSE:
        return close(r->fd);
    case DUP:
        return r->a ? dup(r->fd) : fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
    case FILE_:
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    case GIVE:
        return on_door(r->fd, 1);
    case TAKE:
        return on_door(-1, 0);
    case SEND:
        return send_one(r);
    case RECEIVE:
        return receive_one(r, a);
    case GET:
        a->value = 0;
        return getsockopt(r->fd, r->a, r->b, &a->value, &len);
    default:
        return getpid();
    }
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) ? -1 : value;
}

static void describe(int fd, struct answer *a)
{
    socklen_t len = sizeof a->name.bytes;
    if (getsockname(fd, (void *)a->name.bytes, &len) == 0)
        a->name.len = len;
    len = sizeof a->peer.bytes;
    if (getpeername(fd, (void *)a->peer.bytes, &len) == 0)
        a->peer.len = len;
    a->options[0] = option(fd, SOL_SOCKET, SO_REUSEADDR);
    a->options[1] = option(fd, SOL_SOCKET, SO_REUSEPORT);
    a->options[2] = option(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    a->options[3] = option(fd, SOL_SOCKET, SO_ACCEPTCONN);
}

static void serve(int asked)
{
    struct request r;
    while (recv(asked, &r, sizeof r, 0) == sizeof r && r.op != END) {
        struct answer a = {0};
        memset(a.options, -1, sizeof a.options);
        errno = 0;
        a.ret = call(&r, &a);
        a.error = a.ret < 0 ? errno : 0;
        int makes = r.op == SOCKET || r.op == ACCEPT || r.op == DUP || r.op == FILE_ || r.op == TAKE;
        int fd = makes ? a.ret : r.fd;
        if (r.op != CLOSE && r.op != GIVE && r.op != TAKE && r.op != PID)
            describe(fd, &a);
        if (send(asked, &a, sizeof a, MSG_NOSIGNAL) != sizeof a)
            return;
    }
}

int main(int argc, char **argv)
{
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, door))
        fail("socketpair");
    for (int i = 1; i < argc; i++) {
        int fd, uid, caps;
        if (sscanf(argv[i], "%d:%d:%d", &fd, &uid, &caps) != 3)
            return 2;
        pid_t pid = fork();
        if (pid < 0)
            fail("fork");
        if (pid)
            continue;
        become(uid, caps);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        // The ends of the others: whoever goes away is to be seen to go.
        for (int j = 1; j < argc; j++)
            if (j != i)
                close(atoi(argv[j]));
        serve(fd);
        _exit(0);
    }
    for (int i = 1; i < argc; i++)
        close(atoi(argv[i]));
    while (wait(0) > 0)
        ;
}
