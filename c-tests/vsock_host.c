// A run with `host cid 3` is a vsock host: no AF_VSOCK is needed underneath, and
// each call is answered as a guest with virtio and vsock_loopback answers it.
//: unemulated QEMU passes SO_MAX_PACING_RATE on to no socket
//: ruled a plain run asks the machine's own vsock
//: case host
//: rule host cid 3
//: rule deny bind vsock *:5003
//: only run
//: log 1 deny bind
//: record {"call":"bind","asked":"vsock:any:auto","verdict":"allow","errno":null}
//: record {"call":"socket","type":"dgram","errno":"ENODEV","kernel":null}
//: stdout kind: family 40 type 1 protocol 0
//: stdout fresh: any:auto
//: stdout bind any: ok
//: stdout name: any:5000
//: stdout bind again: EINVAL
//: stdout same port, other type: EADDRINUSE
//: stdout same port, own CID: EADDRINUSE
//: stdout same port, local: EADDRINUSE
//: stdout other CID: EADDRNOTAVAIL
//: stdout hypervisor's: EADDRNOTAVAIL
//: stdout wrong family: EINVAL
//: stdout short: EINVAL
//: stdout by a rule: EACCES
//: stdout own: ok
//: stdout name: 3:5001
//: stdout local beside own: ok
//: stdout name: 1:5001
//: stdout any beside both: EADDRINUSE
//: stdout auto: ok
//: stdout name: any:some
//: stdout unbound listen: EINVAL
//: stdout listen: ok
//: stdout connect a listener: EINVAL
//: stdout to own: ok
//: stdout client: any:some
//: stdout peer: 3:5000
//: stdout accepted from: 1:some
//: stdout child: 3:5000
//: stdout child's peer: 1:some
//: stdout kind: family 40 type 1 protocol 0
//: stdout again: EISCONN
//: stdout source: 0
//: stdout message's source: 0
//: stdout to local: ok
//: stdout client: any:some
//: stdout peer: 1:5000
//: stdout accepted from: 1:some
//: stdout child: 1:5000
//: stdout child's peer: 1:some
//: stdout kind: family 40 type 1 protocol 0
//: stdout again: EISCONN
//: stdout source: 0
//: stdout message's source: 0
//: stdout not blocking: EINPROGRESS
//: stdout writable: 4
//: stdout error: 0
//: stdout again: EISCONN
//: stdout refused: ECONNRESET
//: stdout other type: ECONNRESET
//: stdout hypervisor: ECONNRESET
//: stdout nobody: ETIMEDOUT
//: stdout wrong address: EINVAL
//: stdout backlog full: ECONNRESET
//: stdout datagram: ENODEV
//: stdout raw: ESOCKTNOSUPPORT
//: stdout protocol: EPROTONOSUPPORT
//: stdout poll fresh: 4
//: stdout poll fresh to read: 0
//: stdout receive: ENOTCONN
//: stdout receive a message: ENOTCONN
//: stdout shutdown: ENOTCONN
//: stdout shutdown how: EINVAL
//: stdout device: 3
//: stdout child of fork: any:5000
//: stdout over a dup: any:5000
//: stdout unix: 0
//: stdout after close: ok
#include "vsock.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>

static int vsock(int type) { return must(socket(AF_VSOCK, type, 0)); }

static void say_bind(const char *what, int type, unsigned cid, unsigned port)
{
    int fd = vsock(type);
    say(what, bind_vm(fd, cid, port));
    close(fd);
}

static void connects(int listener, const char *what, unsigned cid)
{
    int fd = vsock(SOCK_STREAM);
    say(what, connect_vm(fd, cid, 5000));
    say_vm_name("client", fd);
    say_vm_peer("peer", fd);
    union vm_name from;
    socklen_t length = sizeof from;
    int child = must(accept(listener, &from.any, &length));
    say_vm("accepted from", child, &from, length);
    say_vm_name("child", child);
    say_vm_peer("child's peer", child);
    say_kind("kind", child);
    say("again", connect_vm(fd, cid, 5000));
    char byte;
    must(send(child, "x", 1, 0));
    length = sizeof from;
    must(recvfrom(fd, &byte, 1, 0, &from.any, &length));
    say_number("source", length);
    must(send(child, "x", 1, 0));
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_name = &from,
                             .msg_namelen = sizeof from,
                             .msg_iov = &part,
                             .msg_iovlen = 1};
    must(recvmsg(fd, &message, 0));
    say_number("message's source", message.msg_namelen);
    close(fd);
    close(child);
}

static int polled(int fd, short events)
{
    struct pollfd entry = {fd, events, 0};
    must(poll(&entry, 1, 50));
    return entry.revents;
}

static void names(void)
{
    int local = vsock(SOCK_STREAM), own = vsock(SOCK_SEQPACKET);
    say("own", bind_vm(own, 3, 5001));
    say_vm_name("name", own);
    say("local beside own", bind_vm(local, VMADDR_CID_LOCAL, 5001));
    say_vm_name("name", local);
    say_bind("any beside both", SOCK_STREAM, VMADDR_CID_ANY, 5001);
    close(own);
    close(local);
    int automatic = vsock(SOCK_STREAM);
    say("auto", bind_vm(automatic, VMADDR_CID_ANY, VMADDR_PORT_ANY));
    say_vm_name("name", automatic);
    close(automatic);
}

static void failing(void)
{
    int fd = vsock(SOCK_STREAM);
    say("refused", connect_vm(fd, 3, 5999));
    int packets = vsock(SOCK_SEQPACKET);
    say("other type", connect_vm(packets, 3, 5000));
    say("hypervisor", connect_vm(fd, VMADDR_CID_HOST, 5000));
    struct timeval soon = {0, 50000};
    must(setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW, &soon, sizeof soon));
    say("nobody", connect_vm(fd, 9, 5000));
    struct address other = ip("127.0.0.1", 80);
    say("wrong address", connect(fd, &other.any, other.length));
    close(fd);
    close(packets);
    int full = vsock(SOCK_STREAM);
    must(bind_vm(full, VMADDR_CID_ANY, 5002));
    must(listen(full, 0));
    int result = 0, clients[8];
    for (int i = 0; i < 8; i++) {
        clients[i] = vsock(SOCK_STREAM);
        if (result == 0)
            result = connect_vm(clients[i], 3, 5002);
    }
    say("backlog full", result);
    for (int i = 0; i < 8; i++)
        close(clients[i]);
    close(full);
    say("datagram", socket(AF_VSOCK, SOCK_DGRAM, 0));
    say("raw", socket(AF_VSOCK, SOCK_RAW, 0));
    say("protocol", socket(AF_VSOCK, SOCK_STREAM, 6));
}

static void without_a_peer(void)
{
    int fd = vsock(SOCK_STREAM);
    char byte;
    say_number("poll fresh", polled(fd, POLLIN | POLLOUT));
    say_number("poll fresh to read", polled(fd, POLLIN));
    say("receive", recv(fd, &byte, 1, 0));
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    say("receive a message", recvmsg(fd, &message, 0));
    say("shutdown", shutdown(fd, SHUT_RDWR));
    say("shutdown how", shutdown(fd, 7));
    close(fd);
}

int main(void)
{
    int fd = vsock(SOCK_STREAM);
    say_kind("kind", fd);
    say_vm_name("fresh", fd);
    say("bind any", bind_vm(fd, VMADDR_CID_ANY, 5000));
    say_vm_name("name", fd);
    say("bind again", bind_vm(fd, VMADDR_CID_ANY, 5001));
    say_bind("same port, other type", SOCK_SEQPACKET, VMADDR_CID_ANY, 5000);
    say_bind("same port, own CID", SOCK_STREAM, 3, 5000);
    say_bind("same port, local", SOCK_STREAM, VMADDR_CID_LOCAL, 5000);
    say_bind("other CID", SOCK_STREAM, 4, 5004);
    say_bind("hypervisor's", SOCK_STREAM, VMADDR_CID_HOST, 5004);
    int other = vsock(SOCK_STREAM);
    struct address inet = ip("127.0.0.1", 5004);
    say("wrong family", bind(other, &inet.any, inet.length));
    struct sockaddr_vm address = vm(VMADDR_CID_ANY, 5004);
    say("short", bind(other, (struct sockaddr *)&address, 8));
    say("by a rule", bind_vm(other, VMADDR_CID_ANY, 5003));
    close(other);
    names();

    int unbound = vsock(SOCK_STREAM);
    say("unbound listen", listen(unbound, 1));
    close(unbound);
    say("listen", listen(fd, 8));
    say("connect a listener", connect_vm(fd, 3, 5000));
    connects(fd, "to own", 3);
    connects(fd, "to local", VMADDR_CID_LOCAL);

    int eager = vsock(SOCK_STREAM | SOCK_NONBLOCK);
    say("not blocking", connect_vm(eager, 3, 5000));
    say_number("writable", polled(eager, POLLOUT));
    say_number("error", option_of(eager, SO_ERROR));
    say("again", connect_vm(eager, 3, 5000));
    close(must(accept(fd, NULL, NULL)));
    close(eager);
    failing();
    without_a_peer();

    int device = must(open("/dev/vsock", O_RDONLY));
    unsigned cid = 0;
    must(ioctl(device, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid));
    say_number("device", cid);
    close(device);

    pid_t pid = must(fork());
    if (pid == 0) {
        say_vm_name("child of fork", fd);
        _exit(0);
    }
    must(waitpid(pid, NULL, 0));
    int copy = must(dup(fd));
    say_vm_name("over a dup", copy);
    close(copy);

    // A Unix socket of the program's own is one.
    int unix_socket = must(socket(AF_UNIX, SOCK_STREAM, 0));
    say_number("unix", option_of(unix_socket, SO_DOMAIN) - AF_UNIX);
    close(unix_socket);

    close(fd);
    int again = vsock(SOCK_STREAM);
    say("after close", bind_vm(again, VMADDR_CID_ANY, 5000));
    return 0;
}
