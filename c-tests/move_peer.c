// getpeername tells the present peer, in the words of the socket's family.
//: case move
//: rule move connect {tcp,udp} 127.0.0.5:8801 to 127.0.0.1:9801
//: same
#include "check.h"

static void say_peer(const char *what, int fd)
{
    struct address a = {.length = sizeof a.storage};
    if (getpeername(fd, &a.any, &a.length) < 0)
        say(what, -1);
    else
        printf("%s: %s (%u bytes)\n", what, text(&a), a.length);
}

int main(void)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    int fd = udp();
    must(connect_ip(fd, "127.0.0.5", 8801));
    say_peer("udp", fd);
    must(connect_ip(fd, "127.0.0.6", 8802));
    say_peer("then to another", fd);
    must(connect(fd, &nobody, sizeof nobody));
    say_peer("dissolved", fd);
    must(connect_ip(fd, "127.0.0.5", 8801));
    say_peer("again", fd);

    int servers[2] = {tcp(), tcp()};
    const char *hosts[] = {"0.0.0.0", "0.0.0.0"};
    const int ports[] = {9801, 8801};
    for (int i = 0; i < 2; i++) {
        must(bind_ip(servers[i], hosts[i], ports[i]));
        must(listen(servers[i], 5));
    }
    fd = tcp();
    must(connect_ip(fd, "127.0.0.5", 8801));
    say_peer("tcp", fd);
    must(connect(fd, &nobody, sizeof nobody));
    say_peer("dissolved", fd);
    must(connect_ip(fd, "127.0.0.1", 9801));
    say_peer("then to another", fd);

    struct address mapped = ip("::ffff:127.0.0.5", 8801), plain = ip("127.0.0.5", 8801);
    fd = must(socket(AF_INET6, SOCK_DGRAM, 0));
    must(connect(fd, &plain.any, plain.length));
    say_peer("IPv6, by an IPv4 address", fd);
    fd = must(socket(AF_INET6, SOCK_DGRAM, 0));
    must(connect(fd, &mapped.any, mapped.length));
    say_peer("IPv6, by a mapped one", fd);
}
