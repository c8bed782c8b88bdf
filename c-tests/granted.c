// Sockets and binds that no rule is about: addresses of every length, ports of
// the kernel's choice, the kernel's refusals, a descriptor that is no socket.
// The records are those that the long way through the rules would leave
// (granted::records).
//: unfiltered strace complains of the address that ends early
//: case rules
//: rule deny bind tcp *:9
//: log some allow bind
//: same
#include "check.h"

int main(void)
{
    int fd = tcp(), other = tcp(), six = tcp6(), datagram = udp(), on = 1, local = must(socket(AF_UNIX, SOCK_STREAM, 0));
    struct address a = {.length = sizeof(sa_family_t)};
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("port", bind_ip(fd, "127.0.0.1", 4711));
    say("taken", bind_ip(other, "127.0.0.1", 4711));
    say("not here", bind_ip(other, "192.0.2.1", 4711));
    say("chosen", bind_ip(other, "127.0.0.1", 0));
    must(setsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    say("v6", bind_ip(six, "::1", 4712));
    say("v6, chosen", bind_ip(tcp6(), "::1", 0));
    a.any.sa_family = AF_INET;
    a.in.sin_port = htons(4713);
    say("longer than an address", bind(datagram, &a.any, 40));
    a.any.sa_family = AF_UNIX;
    say("autobind", bind(local, &a.any, a.length));
    say("no address", bind(tcp(), (void *)16, 16));
    munmap(page + 4096, 4096);
    memcpy(page + 4092, &a.any, 4);
    say("address that ends early", bind(tcp(), (void *)(page + 4092), 16));
    say("no socket", bind_ip(open("/dev/null", O_RDONLY), "127.0.0.1", 4714));
    say("no descriptor", bind_ip(999, "127.0.0.1", 4714));
    a = ip("127.0.0.1", 4715);
    say("raw", syscall(SYS_bind, tcp(), &a.any, a.length));
    say("no family", socket(77, SOCK_STREAM, 0));
    return 0;
}
