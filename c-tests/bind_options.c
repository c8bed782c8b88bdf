// The options that a socket has when it is bound stand in the record of the
// bind (bind_options::*): of a socket at [::] above all whether it receives
// IPv4 too.
//: driven
#include "check.h"

static void set(int fd, int level, int name, int value)
{
    must(setsockopt(fd, level, name, &value, sizeof value));
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        // A socket from before exec: nobody saw what was set.
        say("from before", bind_ip(atoi(argv[1]), "::", 4806));
        return 0;
    }
    int fd = tcp();
    say("none", bind_ip(fd, "127.0.0.1", 4800));
    fd = tcp();
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    say("reused", bind_ip(fd, "127.0.0.1", 4801));
    fd = tcp();
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, SOL_SOCKET, SO_REUSEADDR, 0);
    set(fd, IPPROTO_IP, IP_FREEBIND, 1);
    say("nonlocal", bind_ip(fd, "192.0.2.1", 4802));
    fd = tcp6();
    say("dual", bind_ip(fd, "::", 4803));
    fd = tcp6();
    set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    say("v6only", bind_ip(fd, "::", 4804));
    fd = udp();
    must(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    // A copy has the options of its socket.
    fd = must(dup(fd));
    say("device", bind_ip(fd, "0.0.0.0", 4805));
    fd = tcp6();
    set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    char number[12];
    snprintf(number, sizeof number, "%d", fd);
    must(execl(argv[0], argv[0], number, (char *)0));
}
