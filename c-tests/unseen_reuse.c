// The number of a bound socket becomes free in every way that the library sees,
// and is given to a socket that was made past libc: nothing is left of what was
// known, and a send, which gives it a port, is judged.
//: case deny automatic ports
//: rule deny bind udp *:auto implicit
//: stdout close: EACCES
//: stdout close_range: EACCES
//: stdout closefrom: EACCES
//: stdout dup2: EACCES
//: stdout dup3: EACCES
//: stdout recvmsg: EACCES
//: stdout recvmmsg: EACCES
//: log 7 deny sendto
#include "check.h"

static int port = 8080;

static int bound(void)
{
    int fd = udp();
    must(bind_ip(fd, "127.0.0.1", port++));
    return fd;
}

static int made_past_libc(void)
{
    return must(past_libc(SYS_socket, AF_INET, SOCK_DGRAM, 0));
}

// `now` has the number `was`.
static void sends(const char *how, int was, int now)
{
    errno = EBADFD;
    must(now == was ? 0 : -1);
    struct address to = ip("127.0.0.1", 8070);
    say(how, sendto(now, "x", 1, 0, &to.any, to.length));
    must(past_libc(SYS_close, now, 0, 0));
}

int main(void)
{
    int pair[2], fd = bound();
    close(fd);
    sends("close", fd, made_past_libc());

    fd = bound();
    close_range(fd, fd, 0);
    sends("close_range", fd, made_past_libc());

    fd = bound();
    closefrom(fd);
    sends("closefrom", fd, made_past_libc());

    fd = bound();
    int other = made_past_libc();
    must(dup2(other, fd));
    sends("dup2", fd, fd);

    fd = bound();
    must(dup3(other, fd, O_CLOEXEC));
    sends("dup3", fd, fd);

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    send_fd(pair[0], other);
    fd = bound();
    must(past_libc(SYS_close, fd, 0, 0));
    sends("recvmsg", fd, receive_fd(pair[1]));

    send_fd(pair[0], other);
    fd = bound();
    must(past_libc(SYS_close, fd, 0, 0));
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec io = {&byte, 1};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &io, .msg_iovlen = 1,
                                    .msg_control = control, .msg_controllen = sizeof control}};
    must(recvmmsg(pair[1], &m, 1, 0, NULL) - 1);
    sends("recvmmsg", fd, fd);
}
