// The same work on a Unix socket and on a vsock one: nanoseconds of each.
//
//     vsock unix|vsock|DIR names|connect|pingpong|stream COUNT [HELD]
//
// DIR: a Unix socket with a file there, which is removed when it is closed.
// names: socket, bind, listen and close, beside HELD others; connect: connect,
// accept and close both ends; pingpong: a byte there and back; stream: blocks of
// 64 KiB one way, nanoseconds per block.
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int is_vsock;
static const char *directory;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int check(int n, const char *what)
{
    if (n < 0) {
        perror(what);
        exit(1);
    }
    return n;
}

static int make(void) { return check(socket(is_vsock ? AF_VSOCK : AF_UNIX, SOCK_STREAM, 0), "socket"); }

static socklen_t name(void *to, int n)
{
    if (is_vsock) {
        struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 20000 + n};
        memcpy(to, &a, sizeof a);
        return sizeof a;
    }
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (directory) {
        int len = snprintf(a.sun_path, sizeof a.sun_path, "%s/vsock.3.%d.any", directory, 20000 + n);
        memcpy(to, &a, sizeof a);
        return offsetof(struct sockaddr_un, sun_path) + len + 1;
    }
    int len = snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "bench/vsock/%d/vsock.3.%d.any", getppid(), 20000 + n);
    memcpy(to, &a, sizeof a);
    return offsetof(struct sockaddr_un, sun_path) + 1 + len;
}

static int bound(int n)
{
    struct sockaddr_storage a;
    socklen_t len = name(&a, n);
    int fd = make();
    check(bind(fd, (struct sockaddr *)&a, len), "bind");
    check(listen(fd, 8), "listen");
    return fd;
}

// Closes what was bound by that name, whose file stays where it has one.
static void unbind(int fd, int n)
{
    struct sockaddr_un a;
    close(fd);
    if (directory) {
        name(&a, n);
        check(unlink(a.sun_path), "unlink");
    }
}

static int joined(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    if (is_vsock) {
        struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = 20000};
        memcpy(&a, &vm, sizeof vm);
        len = sizeof vm;
    } else
        len = name(&a, 0);
    int fd = make();
    check(connect(fd, (struct sockaddr *)&a, len), "connect");
    return fd;
}

int main(int count_of_args, char **args)
{
    is_vsock = !strcmp(args[1], "vsock");
    directory = strchr(args[1], '/') ? args[1] : NULL;
    long count = atol(args[3]), held = count_of_args > 4 ? atol(args[4]) : 0;
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    long long before;
    if (!strcmp(args[2], "names")) {
        for (long n = 1; n <= held; n++)
            bound(n);
        bound(0);
        before = now();
        for (long n = 0; n < count; n++)
            unbind(bound(held + 1), held + 1);
        printf("%.0f\n", (double)(now() - before) / count);
        return 0;
    }
    int server = bound(0);
    if (!strcmp(args[2], "connect")) {
        before = now();
        for (long n = 0; n < count; n++) {
            int fd = joined();
            close(check(accept(server, NULL, NULL), "accept"));
            close(fd);
        }
        printf("%.0f\n", (double)(now() - before) / count);
        return 0;
    }
    int client = joined(), peer = check(accept(server, NULL, NULL), "accept");
    int is_stream = !strcmp(args[2], "stream");
    static char block[65536];
    if (fork() == 0) {
        close(client);
        for (;;) {
            ssize_t n = recv(peer, block, is_stream ? sizeof block : 1, 0);
            if (n <= 0)
                _exit(0);
            if (!is_stream)
                check(send(peer, block, 1, 0), "send");
        }
    }
    close(peer);
    before = now();
    for (long n = 0; n < count; n++) {
        if (!is_stream) {
            check(send(client, block, 1, 0), "send");
            check(recv(client, block, 1, 0), "recv");
            continue;
        }
        for (size_t sent = 0; sent < sizeof block;)
            sent += check(send(client, block + sent, sizeof block - sent, 0), "send");
    }
    shutdown(client, SHUT_WR);
    if (is_stream)
        wait(NULL);
    printf("%.0f\n", (double)(now() - before) / count);
    return 0;
}
