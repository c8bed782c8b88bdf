// What the tests of vsock sockets share.
#ifndef VSOCK_H
#define VSOCK_H

#include "check.h"

#include <linux/vm_sockets.h>

static struct sockaddr_vm vm(unsigned cid, unsigned port)
{
    struct sockaddr_vm a;
    memset(&a, 0, sizeof a);
    a.svm_family = AF_VSOCK;
    a.svm_cid = cid;
    a.svm_port = port;
    return a;
}

__attribute__((unused)) static int bind_vm(int fd, unsigned cid, unsigned port)
{
    struct sockaddr_vm a = vm(cid, port);
    return bind(fd, (struct sockaddr *)&a, sizeof a);
}

__attribute__((unused)) static int connect_vm(int fd, unsigned cid, unsigned port)
{
    struct sockaddr_vm a = vm(cid, port);
    return connect(fd, (struct sockaddr *)&a, sizeof a);
}

// "any:auto", "1:some" where the port is of nobody's choice, "2:5000".
static const char *vm_text(const struct sockaddr_vm *a, socklen_t length)
{
    static char buffer[64];
    if (a->svm_family != AF_VSOCK || length != sizeof *a) {
        snprintf(buffer, sizeof buffer, "family %d (%u bytes)", a->svm_family, length);
        return buffer;
    }
    int n = a->svm_cid == VMADDR_CID_ANY ? snprintf(buffer, sizeof buffer, "any:")
                                         : snprintf(buffer, sizeof buffer, "%u:", a->svm_cid);
    if (a->svm_port == VMADDR_PORT_ANY)
        snprintf(buffer + n, sizeof buffer - (size_t)n, "auto");
    else if (a->svm_port >= 1024 && (a->svm_port < 5000 || a->svm_port > 5999))
        snprintf(buffer + n, sizeof buffer - (size_t)n, "some");
    else
        snprintf(buffer + n, sizeof buffer - (size_t)n, "%u", a->svm_port);
    return buffer;
}

union vm_name {
    struct sockaddr any;
    struct sockaddr_vm vm;
    struct sockaddr_storage room;
};

static void say_vm(const char *what, int answer, const union vm_name *a, socklen_t length)
{
    if (answer < 0) {
        say(what, -1);
        return;
    }
    printf("%s: %s\n", what, vm_text(&a->vm, length));
    fflush(stdout);
}

__attribute__((unused)) static void say_vm_name(const char *what, int fd)
{
    union vm_name a;
    socklen_t length = sizeof a;
    memset(&a, 0, sizeof a);
    int answer = getsockname(fd, &a.any, &length);
    say_vm(what, answer, &a, length);
}

__attribute__((unused)) static void say_vm_peer(const char *what, int fd)
{
    union vm_name a;
    socklen_t length = sizeof a;
    memset(&a, 0, sizeof a);
    int answer = getpeername(fd, &a.any, &length);
    say_vm(what, answer, &a, length);
}

__attribute__((unused)) static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    must(getsockopt(fd, SOL_SOCKET, option, &value, &length));
    return value;
}

// Family, type and protocol, as the program is told.
__attribute__((unused)) static void say_kind(const char *what, int fd)
{
    printf("%s: family %d type %d protocol %d\n", what, option_of(fd, SO_DOMAIN),
           option_of(fd, SO_TYPE), option_of(fd, SO_PROTOCOL));
    fflush(stdout);
}

// The family by the kernel's word.
__attribute__((unused)) static int real_family(int fd)
{
    struct sockaddr_storage a;
    socklen_t length = sizeof a;
    must(past_libc(SYS_getsockname, fd, (long)&a, (long)&length));
    return a.ss_family;
}

#endif
