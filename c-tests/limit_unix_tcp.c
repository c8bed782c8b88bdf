// Limit: what of TCP a Unix socket has not, in the place of a TCP socket: its
// state, and answers that name the family.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: args $DIR/s
//: stdout the listener's state: CLOSE
//: stdout the connection's state: CLOSE
//: stdout a send with an address: EISCONN
//: stdout the address of a device: ENOTTY
//: stdout accept after shutdown: EAGAIN
#include "check.h"
#include <net/if.h>
#include <sys/ioctl.h>

static void say_state(const char *what, int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
    printf("%s: %s\n", what, info.tcpi_state == TCP_CLOSE ? "CLOSE"
                             : info.tcpi_state == TCP_LISTEN ? "LISTEN" : "ESTABLISHED");
}

int main(int argc, char **argv)
{
    int server = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), on = 1;
    must(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    must(bind_ip(server, "127.0.0.1", 8080));
    must(listen(server, 1));
    say_state("the listener's state", server);
    client_of(8080, argc > 1 ? argv[1] : NULL);
    struct pollfd ready = {.fd = server, .events = POLLIN};
    must(poll(&ready, 1, -1));
    int fd = must(accept(server, NULL, NULL));
    say_state("the connection's state", fd);
    struct address a = ip("127.0.0.1", 8080);
    say("a send with an address", sendto(fd, "x", 1, 0, &a.any, a.length) < 0 ? -1 : 0);
    struct ifreq device = {.ifr_name = "lo"};
    say("the address of a device", ioctl(fd, SIOCGIFADDR, &device));
    must(shutdown(server, SHUT_RDWR));
    say("accept after shutdown", accept(server, NULL, NULL));
}
