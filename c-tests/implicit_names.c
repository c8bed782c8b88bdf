// Netlink sockets, and Unix sockets that want credentials, get a name by
// connecting or sending.
//: case deny
//: rule deny bind netlink * implicit
//: rule deny bind unix auto implicit
//: stdout netlink connect: EACCES
//: stdout netlink send: EACCES
//: stdout unix stream: EACCES
//: stdout unix datagram connect: EACCES
//: stdout unix datagram send: EACCES
//: stdout without credentials: ok
//: log 3 deny connect
//: log 2 deny sendto
//: case a rule about binds only
//: rule deny bind unix @never
//: same
#include "check.h"
#include <linux/netlink.h>

static int unix_socket(int type)
{
    int on = 1, fd = must(socket(AF_UNIX, type, 0));
    must(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    return fd;
}

int main(void)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct sockaddr *to = (struct sockaddr *)&kernel;
    struct {
        struct nlmsghdr header;
    } message = {{.nlmsg_len = sizeof message, .nlmsg_type = NLMSG_NOOP}};
    int fd = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    say("netlink connect", connect(fd, to, sizeof kernel));
    fd = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    say("netlink send",
        sendto(fd, &message, sizeof message, 0, to, sizeof kernel) < 0 ? -1 : 0);

    struct sockaddr_un at[2] = {{.sun_family = AF_UNIX, .sun_path = "\0implicit-names-s"},
                                {.sun_family = AF_UNIX, .sun_path = "\0implicit-names-d"}};
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + sizeof "implicit-names-s";
    int stream = must(socket(AF_UNIX, SOCK_STREAM, 0)), datagram = must(socket(AF_UNIX, SOCK_DGRAM, 0));
    // The test may run several times at once.
    snprintf(at[0].sun_path + 1, 40, "s-%09d-names", getpid());
    snprintf(at[1].sun_path + 1, 40, "d-%09d-names", getpid());
    must(bind(stream, (void *)&at[0], length));
    must(bind(datagram, (void *)&at[1], length));
    must(listen(stream, 5));
    say("unix stream", connect(unix_socket(SOCK_STREAM), (void *)&at[0], length));
    say("unix datagram connect", connect(unix_socket(SOCK_DGRAM), (void *)&at[1], length));
    say("unix datagram send",
        sendto(unix_socket(SOCK_DGRAM), "x", 1, 0, (void *)&at[1], length) < 0 ? -1 : 0);
    say("without credentials",
        connect(must(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&at[0], length));
}
