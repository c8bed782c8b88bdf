// What docs/vsock.md says of a socket on a vsock host that is otherwise than the
// kernel's own.
//: unemulated QEMU passes SO_MAX_PACING_RATE on to no socket
//: ruled a plain run asks the machine's own vsock
//: case host
//: rule host cid 3
//: only run
//: stdout epoll fresh: 20
//: stdout read: EINVAL
//: stdout bound client's peer: 3:5000
//: stdout child: 3:5000
#include "vsock.h"

#include <sys/epoll.h>

int main(void)
{
    int fresh = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    int ep = must(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLOUT};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, fresh, &event));
    must(epoll_wait(ep, &event, 1, 1000));
    // The kernel's own: EPOLLOUT alone.
    say_number("epoll fresh", event.events);
    char byte;
    // The kernel's own: ENOTCONN.
    say("read", read(fresh, &byte, 1));

    int listener = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    must(bind_vm(listener, VMADDR_CID_ANY, 5000));
    must(listen(listener, 1));
    int client = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    must(bind_vm(client, VMADDR_CID_ANY, 5001));
    must(connect_vm(client, VMADDR_CID_LOCAL, 5000));
    // The kernel's own: 1:5000 for both.
    say_vm_peer("bound client's peer", client);
    say_vm_name("child", must(accept(listener, NULL, NULL)));
    return 0;
}
