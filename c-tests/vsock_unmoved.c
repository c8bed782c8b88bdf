// A bind that no rule moves goes to the kernel's own vsock socket, which has all
// that was done to the one before: options, flags, duplicates, epoll
// registrations. Where there is no such socket the bind fails as its socket(2)
// would have failed.
//: ruled a kernel without vsock has none
//: case unmoved
//: needs vsock
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout NULL: EFAULT
//: stdout short: EINVAL
//: stdout a Unix address: EINVAL
//: stdout an IP address: EINVAL
//: stdout still new: any:auto
//: stdout bind: ok
//: stdout family: family 40 type 1 protocol 0
//: stdout really: 40
//: stdout name: any:some
//: stdout duplicate: 40
//: stdout child's: 40
//: stdout options: 1048576 3 1
//: stdout flags: 1 0 1
//: stdout watched: EEXIST
//: stdout bind again: EINVAL
//: stdout listen: ok
//: stdout another: ok
//: stdout really: 1
//: stdout name: any:5000
//: record {"call":"bind","verdict":"allow","errno":null,"asked":"vsock:any:auto","identity":"cookie"}
//: case not moved because of a connect rule
//: needs vsock
//: args auto
//: rule move connect vsock *:5000 to unix:$DIR/server
//: stdout NULL: EFAULT
//: stdout short: EINVAL
//: stdout a Unix address: EINVAL
//: stdout an IP address: EINVAL
//: stdout still new: any:auto
//: stdout bind: ok
//: stdout family: family 40 type 1 protocol 0
//: stdout really: 40
//: stdout name: any:some
//: stdout duplicate: 40
//: stdout child's: 40
//: stdout options: 1048576 3 1
//: stdout flags: 1 0 1
//: stdout watched: EEXIST
//: stdout bind again: EINVAL
//: stdout listen: ok
//: stdout another: ok
//: stdout really: 40
//: stdout name: any:some
//: case refused, below docker
//: below docker
//: only run
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout NULL: EFAULT
//: stdout short: EINVAL
//: stdout a Unix address: EINVAL
//: stdout an IP address: EINVAL
//: stdout still new: any:auto
//: stdout bind: EPERM
//: stdout family: family 40 type 1 protocol 0
//: stdout still: any:auto
//: stdout another: ok
//: stdout really: 1
//: stdout name: any:5000
//: record {"call":"bind","verdict":"allow","errno":"EPERM","check":"__sock_create","asked":"vsock:any:auto"}
//: case unknown, below novsock
//: below novsock
//: only run
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout NULL: EFAULT
//: stdout short: EINVAL
//: stdout a Unix address: EINVAL
//: stdout an IP address: EINVAL
//: stdout still new: any:auto
//: stdout bind: EAFNOSUPPORT
//: stdout family: family 40 type 1 protocol 0
//: stdout still: any:auto
//: stdout another: ok
//: stdout really: 1
//: stdout name: any:5000
//: case of other types, below docker
//: below docker
//: only run
//: args types
//: rule move bind vsock * to unix:$DIR/server
//: stdout datagram: EPERM
//: stdout raw: EPERM
//: stdout protocol: EPERM
//: stdout stream: ok
//: case for another program, below docker
//: below docker
//: only run
//: args types
//: rule move bind vsock * to unix:$DIR/server for /no/such/program
//: stdout datagram: EPERM
//: stdout raw: EPERM
//: stdout protocol: EPERM
//: stdout stream: EPERM
//: case denied
//: args types
//: rule deny socket vsock with EMFILE
//: rule move bind vsock * to unix:$DIR/server
//: stdout datagram: EMFILE
//: stdout raw: EMFILE
//: stdout protocol: EMFILE
//: stdout stream: EMFILE
//: case observed, below docker
//: below docker
//: only run
//: args types
//: rule move bind vsock * to unix:$DIR/server
//: rule mode observe
//: stdout datagram: EPERM
//: stdout raw: EPERM
//: stdout protocol: EPERM
//: stdout stream: EPERM
#include "vsock.h"

#include <sys/epoll.h>

static int types(void)
{
    say("datagram", socket(AF_VSOCK, SOCK_DGRAM, 0));
    say("raw", socket(AF_VSOCK, SOCK_RAW, 0));
    say("protocol", socket(AF_VSOCK, SOCK_STREAM, 7));
    say("stream", socket(AF_VSOCK, SOCK_STREAM, 0));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "types") == 0)
        return types();
    int fd = must(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    struct sockaddr_vm port = vm(VMADDR_CID_ANY, 5000);
    struct address path = {.length = sizeof path.un};
    path.un = (struct sockaddr_un){AF_UNIX, "never"};
    say("NULL", bind(fd, NULL, sizeof port));
    say("short", bind(fd, (struct sockaddr *)&port, 12));
    say("a Unix address", bind(fd, &path.any, path.length));
    say("an IP address", bind_ip(fd, "127.0.0.1", 80));
    say_vm_name("still new", fd);

    int copy = must(dup(fd));
    int ep = must(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    uint64_t size = 1 << 20, max = 4 << 20;
    must(setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &max, sizeof max));
    must(setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof size));
    struct timeval time = {3, 0};
    must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    must(fcntl(fd, F_SETOWN, getpid()));

    int bound = say("bind", bind_vm(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
    say_kind("family", fd);
    if (bound == 0) {
        say_number("really", real_family(fd));
        say_vm_name("name", fd);
        say_number("duplicate", real_family(copy));
        pid_t child = must(fork());
        if (child == 0) {
            say_number("child's", real_family(copy));
            _exit(0);
        }
        wait_for(child);
        socklen_t length = sizeof size;
        must(getsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, &length));
        length = sizeof time;
        must(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, &length));
        printf("options: %lu %ld %d\n", (unsigned long)size, (long)time.tv_sec,
               fcntl(fd, F_GETOWN) == getpid());
        printf("flags: %d %d %d\n", fcntl(fd, F_GETFD), fcntl(copy, F_GETFD),
               !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
        fflush(stdout);
        say("watched", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
        say("bind again", bind_vm(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
        say("listen", listen(fd, 1));
    } else {
        say_vm_name("still", fd);
    }
    int another = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    unsigned last = argc > 1 ? VMADDR_PORT_ANY : 5000;
    say("another", bind_vm(another, VMADDR_CID_ANY, last));
    say_number("really", real_family(another));
    say_vm_name("name", another);
    return 0;
}
