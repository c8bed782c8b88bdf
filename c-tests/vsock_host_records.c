// Messages of a SOCK_SEQPACKET on a vsock host: the end of a record arrives, in
// every call that can tell of it, and no descriptor is left behind. The second
// half is of a program whose buffers libc checks.
//: unemulated QEMU passes SO_MAX_PACING_RATE on to no socket
//: ruled a plain run asks the machine's own vsock
//: link -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
//: case host
//: rule host cid 3
//: only run
//: stdout send: 1
//: stdout recvmsg: end
//: stdout send without: 1
//: stdout recvmsg: goes on
//: stdout sendmsg: 1
//: stdout recvmsg with room for control data: end, 0 bytes of it
//: stdout sendmmsg: 2
//: stdout recvmmsg: 2, end, end
//: stdout a stream: goes on
//: stdout descriptors: 0
//: stdout poll: 4
//: stdout poll to read: 0
//: stdout ppoll to read: 0
//: stdout recv: ENOTCONN
//: stdout recvfrom: ENOTCONN
#include "vsock.h"

#include <sys/time.h>

static int ends[2];

static void joined(int type, unsigned port)
{
    int listener = must(socket(AF_VSOCK, type, 0));
    must(bind_vm(listener, VMADDR_CID_ANY, port));
    must(listen(listener, 1));
    ends[0] = must(socket(AF_VSOCK, type, 0));
    must(connect_vm(ends[0], 3, port));
    ends[1] = must(accept(listener, NULL, NULL));
    close(listener);
}

static char bytes[2][8];
static struct iovec parts[2] = {{bytes[0], 1}, {bytes[1], 1}};

static const char *end_of(const struct msghdr *m) { return m->msg_flags & MSG_EOR ? "end" : "goes on"; }

static void receive(const char *what, int fd)
{
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 1};
    must(recvmsg(fd, &m, 0));
    printf("%s: %s\n", what, end_of(&m));
}

int main(void)
{
    joined(SOCK_SEQPACKET, 5000);
    int first = must(dup(0));
    close(first);
    say_number("send", send(ends[0], "x", 1, MSG_EOR));
    receive("recvmsg", ends[1]);
    say_number("send without", send(ends[0], "x", 1, 0));
    receive("recvmsg", ends[1]);
    char control[128];
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 1};
    say_number("sendmsg", sendmsg(ends[0], &m, MSG_EOR));
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    must(recvmsg(ends[1], &m, 0));
    printf("recvmsg with room for control data: %s, %zu bytes of it\n", end_of(&m),
           (size_t)m.msg_controllen);
    struct mmsghdr many[2];
    memset(many, 0, sizeof many);
    for (int i = 0; i < 2; i++) {
        many[i].msg_hdr.msg_iov = &parts[i];
        many[i].msg_hdr.msg_iovlen = 1;
    }
    say_number("sendmmsg", sendmmsg(ends[0], many, 2, MSG_EOR));
    int got = recvmmsg(ends[1], many, 2, 0, NULL);
    printf("recvmmsg: %d, %s, %s\n", got, end_of(&many[0].msg_hdr), end_of(&many[1].msg_hdr));
    int packets = ends[0], others = ends[1];
    joined(SOCK_STREAM, 5001);
    must(send(ends[0], "x", 1, MSG_EOR));
    receive("a stream", ends[1]);
    close(ends[0]);
    close(ends[1]);
    int last = must(dup(0));
    say_number("descriptors", last - first);
    close(packets);
    close(others);

    // The compiler does not know how large the lists and buffers are.
    volatile nfds_t one = 1;
    volatile size_t size = 1;
    int fresh = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    struct pollfd entry = {fresh, POLLIN | POLLOUT, 0};
    must(poll(&entry, one, 50));
    say_number("poll", entry.revents);
    entry.events = POLLIN;
    say_number("poll to read", poll(&entry, one, 50));
    struct timespec time = {0, 50000000};
    say_number("ppoll to read", ppoll(&entry, one, &time, NULL));
    say("recv", recv(fresh, bytes[0], size, 0));
    union vm_name from;
    socklen_t length = sizeof from;
    say("recvfrom", recvfrom(fresh, bytes[0], size, 0, &from.any, &length));
    return 0;
}
