// Two sockets that the program binds to two devices do not meet, wherever they
// really are.
//: user root
//: unemulated needs a network namespace
//: unfiltered makes a network namespace
//: outside makes a network namespace
//: case move
//: rule move bind any *:3000 to loopback:auto
//: same
//: log 5 move bind
#include "check.h"
#include <sched.h>

static int on(const char *device, int type)
{
    int fd = must(socket(AF_INET, type, 0));
    must(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device) + 1));
    return fd;
}

int main(void)
{
    must(unshare(CLONE_NEWNET));
    must(system("ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v0 up")
             ? -1 : 0);
    say("lo", bind_ip(on("lo", SOCK_STREAM), "0.0.0.0", 3000));
    say("v0", bind_ip(on("v0", SOCK_STREAM), "0.0.0.0", 3000));
    say("lo again", bind_ip(on("lo", SOCK_STREAM), "0.0.0.0", 3000));
    say("UDP, lo", bind_ip(on("lo", SOCK_DGRAM), "0.0.0.0", 3000));
    say("UDP, v0", bind_ip(on("v0", SOCK_DGRAM), "0.0.0.0", 3000));
}
