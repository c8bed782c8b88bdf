// A wildcard that is moved to loopback serves the families that it served
// before, there and nowhere else: each kind of server, called at 127.0.0.1, at
// ::1 and at another address of this host.
//: user root
//: unemulated needs a network namespace
//: unfiltered makes a network namespace
//: outside makes a network namespace
//: case move
//: rule move bind {tcp,udp} *:8080 to loopback:18080
//: args 18080
//: stdout IPv4: 0.0.0.0:8080, IPV6_V6ONLY 0, no device
//: stdout 127.0.0.1: ok
//: stdout ::1: ECONNREFUSED
//: stdout 192.0.2.1: ECONNREFUSED
//: stdout both: [::]:8080, IPV6_V6ONLY 0, no device
//: stdout 127.0.0.1: ok
//: stdout ::1: ok
//: stdout 192.0.2.1: ECONNREFUSED
//: stdout IPv6 only: [::]:8080, IPV6_V6ONLY 1, no device
//: stdout 127.0.0.1: ECONNREFUSED
//: stdout ::1: ok
//: stdout 192.0.2.1: ECONNREFUSED
//: stdout two sockets: ok
//: stdout 127.0.0.1: ok
//: stdout ::1: ok
//: stdout 192.0.2.1: ECONNREFUSED
//: stdout accepted: 127.0.0.1:8080, no device
//: stdout UDP: [::]:8080, IPV6_V6ONLY 0, no device
//: stdout came from 127.0.0.1 and ::1: 2
//: stdout a device afterwards: ok
//: stdout it is: lo
//: stdout besides 192.0.2.1: ok
//: stdout 127.0.0.1: ok
//: stdout ::1: ECONNREFUSED
//: stdout 192.0.2.1: ok
//: stdout besides 127.0.0.1: EADDRINUSE
//: log 9 move bind
//: record 3 {"used_device":"lo"}
//: record 1 {"reason":"no IPv6 client reaches it"}
#include "check.h"
#include <sched.h>

static int port = 8080;

static void say_device(int fd)
{
    char name[16] = "";
    socklen_t length = sizeof name;
    must(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &length));
    printf("%s\n", length && name[0] ? name : "no device");
}

static void say_all(const char *what, int fd)
{
    struct address a = {.length = sizeof a.storage};
    int v6only = 0;
    socklen_t length = sizeof v6only;
    must(getsockname(fd, &a.any, &a.length));
    if (a.any.sa_family == AF_INET6)
        must(getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &length));
    printf("%s: %s, IPV6_V6ONLY %d, ", what, text(&a), v6only);
    say_device(fd);
}

static int serve(const char *host, int v6only, int type, int at)
{
    int on = 1, fd = must(socket(strchr(host, ':') ? AF_INET6 : AF_INET, type, 0));
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    if (strchr(host, ':'))
        must(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only));
    if (bind_ip(fd, host, at) < 0)
        return -1;
    if (type == SOCK_STREAM)
        must(listen(fd, 8));
    return fd;
}

static void call_all(void)
{
    const char *hosts[] = {"127.0.0.1", "::1", "192.0.2.1"};
    for (size_t i = 0; i < COUNT(hosts); i++) {
        int fd = must(socket(strchr(hosts[i], ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
        say(hosts[i], connect_ip(fd, hosts[i], port));
        close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        port = atoi(argv[1]);
    must(unshare(CLONE_NEWNET));
    must(system("ip link set lo up && ip link add v0 type veth peer name v1 && "
                "ip addr add 192.0.2.1/24 dev v0 && ip link set v0 up && ip link set v1 up") ? -1 : 0);

    int fd = must(serve("0.0.0.0", 0, SOCK_STREAM, 8080));
    say_all("IPv4", fd);
    call_all();
    close(fd);
    say_all("both", fd = must(serve("::", 0, SOCK_STREAM, 8080)));
    call_all();
    close(fd);
    say_all("IPv6 only", fd = must(serve("::", 1, SOCK_STREAM, 8080)));
    call_all();
    close(fd);

    fd = must(serve("0.0.0.0", 0, SOCK_STREAM, 8080));
    int other = say("two sockets", serve("::", 1, SOCK_STREAM, 8080));
    call_all();
    close(fd);
    close(other);

    other = must(serve("::", 0, SOCK_STREAM, 8080));
    int client = tcp6();
    must(connect_ip(client, "::1", port));
    int accepted = must(accept(other, NULL, NULL));
    client = tcp();
    must(connect_ip(client, "127.0.0.1", port));
    close(accepted);
    accepted = must(accept(other, NULL, NULL));
    struct address a = {.length = sizeof a.storage};
    must(getsockname(accepted, &a.any, &a.length));
    printf("accepted: %s, ", strstr(text(&a), "127.0.0.1") ? "127.0.0.1:8080" : text(&a));
    say_device(accepted);
    close(accepted);
    close(client);
    close(other);

    fd = must(serve("::", 0, SOCK_DGRAM, 8080));
    say_all("UDP", fd);
    struct address four = ip("127.0.0.1", port), six = ip("::1", port);
    must(sendto(udp(), "x", 1, 0, &four.any, four.length));
    must(sendto(must(socket(AF_INET6, SOCK_DGRAM, 0)), "x", 1, 0, &six.any, six.length));
    char got[2];
    int came = 0;
    for (; came < 2; came++)
        must(recv(fd, got, 1, 0));
    say_number("came from 127.0.0.1 and ::1", came);
    // The device is the program's to choose, once.
    char name[16] = "";
    socklen_t length = sizeof name;
    say("a device afterwards", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    must(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &length));
    printf("it is: %s\n", name);
    close(fd);

    // Somebody has the port at another address: IPv4 alone is left; or at one of
    // those that the server wants.
    int taken = must(serve("192.0.2.1", 0, SOCK_STREAM, port));
    say("besides 192.0.2.1", fd = serve("::", 0, SOCK_STREAM, 8080));
    if (fd >= 0)
        call_all();
    close(fd);
    close(taken);
    taken = must(serve("127.0.0.1", 0, SOCK_STREAM, port));
    say("besides 127.0.0.1", serve("::", 0, SOCK_STREAM, 8080));
    close(taken);
}
