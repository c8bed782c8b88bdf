// How much of its stack a signal handler needs for hooked calls: fills an
// alternate stack, makes the calls in a handler, and looks how far they came.
// Says the bytes between the handler and the deepest use of each.
//: driven
#include "vsock.h"

enum { SIZE = 64 * 1024, FILL = 0xa5 };

static char *stack, *handler;
static const char *call;
static int port;

// A Unix socket in the place of a vsock one, which is bound, or gives way to the
// kernel's own.
static void make_vsock(void)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    bind_vm(fd, VMADDR_CID_ANY, port == 0 ? VMADDR_PORT_ANY : (unsigned)port);
    socklen_t length = sizeof port;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &(int){0}, &length);
    close(fd);
}

static void make_call(void)
{
    if (!strcmp(call, "vsock")) {
        make_vsock();
        return;
    }
    int is_udp = !strcmp(call, "sendto"), is_netlink = !strcmp(call, "socket");
    int fd = is_netlink ? socket(AF_NETLINK, SOCK_RAW, 0)
                        : socket(AF_INET, is_udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    struct address a = ip("127.0.0.1", port);
    if (!strcmp(call, "bind"))
        bind(fd, &a.any, a.length);
    else if (!strcmp(call, "connect"))
        connect(fd, &a.any, a.length);
    else if (!strcmp(call, "listen"))
        listen(fd, 1);
    else if (is_udp)
        sendto(fd, "x", 1, 0, &a.any, a.length);
    getsockname(fd, &a.any, &a.length);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &port, sizeof port);
    close(dup(fd));
    close(fd);
}

static void on_signal(int signal)
{
    (void)signal;
    char here;
    handler = &here;
    make_call();
}

int main(void)
{
    static const struct {
        const char *call;
        int port;
    } calls[] = {
        {"bind", 0}, {"bind", 9000}, {"bind", 9001}, {"bind", 9002}, {"bind", 9003},
        {"connect", 9004}, {"connect", 9005}, {"connect", 9006},
        {"listen", 0}, {"sendto", 9006}, {"socket", 0}, {"vsock", 9009}, {"vsock", 0},
    };
    stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t alternate = {.ss_sp = stack, .ss_size = SIZE};
    must(sigaltstack(&alternate, NULL));
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    must(sigaction(SIGUSR1, &action, NULL));
    for (size_t i = 0; i < COUNT(calls); i++) {
        call = calls[i].call;
        port = calls[i].port;
        // The dynamic linker's own work is done before, and is none of it; what
        // follows finds the name of the one before in its way.
        make_call();
        memset(stack, FILL, SIZE);
        raise(SIGUSR1);
        char *deepest = stack;
        while (*(unsigned char *)deepest == FILL)
            deepest++;
        printf("%s %d: %ld\n", call, port, (long)(handler - deepest));
        fflush(stdout);
    }
}
