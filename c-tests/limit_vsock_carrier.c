// What shows that a vsock socket is a Unix socket: what poll, recv and shutdown
// say of one that is not connected, and that it cannot become the kernel's own
// while another process holds it.
//: ruled it shows what a carrier is
//: case carrier
//: needs vsock
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout events: 14
//: stdout recv: EINVAL
//: stdout shutdown: ok
//: stdout shared: EADDRNOTAVAIL
//: stdout alone: ok
//: record {"call":"bind","errno":"EADDRNOTAVAIL","check":"bindgate_move"}
#include "vsock.h"

int main(void)
{
    int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    struct pollfd event = {.fd = fd, .events = POLLIN | POLLOUT};
    must(poll(&event, 1, 0));
    printf("events: %x\n", (unsigned)event.revents);
    fflush(stdout);
    char byte;
    say("recv", recv(fd, &byte, 1, 0));
    say("shutdown", shutdown(fd, SHUT_RDWR));
    int line[2];
    must(pipe(line));
    pid_t child = must(fork());
    if (child == 0) {
        close(line[1]);
        must(read(line[0], &byte, 1));
        _exit(0);
    }
    close(line[0]);
    say("shared", bind_vm(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
    close(line[1]);
    wait_for(child);
    say("alone", bind_vm(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
    return 0;
}
