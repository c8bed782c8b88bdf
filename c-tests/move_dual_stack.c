// A server with a socket for IPv4 and one for IPv6 only, as nginx has by
// default, and one with a single dual-stack socket.
//: case port only
//: rule move bind tcp *:8080 to *:18080
//: args 18080
//: same
//: log 3 move bind
//: case loopback, two sockets
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080 two
//: stdout IPv4: ok
//: stdout IPv6 only: ok
//: stdout IPv4: 0.0.0.0:8080 (16 bytes)
//: stdout IPv6: [::]:8080 (28 bytes)
//: stdout IPv4 client: ok
//: stdout accepted: 127.0.0.1:8080 (16 bytes)
//: stdout IPv6 client: ok
//: stdout accepted: [::1]:8080 (28 bytes)
//: log 2 move bind
#include "check.h"

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 8080, on = 1;
    int four = tcp(), six = tcp6();
    must(setsockopt(four, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    must(setsockopt(six, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    must(setsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    say("IPv4", bind_ip(four, "0.0.0.0", 8080));
    say("IPv6 only", bind_ip(six, "::", 8080));
    say_name("IPv4", four);
    say_name("IPv6", six);
    must(listen(four, 1));
    must(listen(six, 1));
    int client = tcp();
    say("IPv4 client", connect_ip(client, "127.0.0.1", port));
    say_name("accepted", must(accept(four, NULL, NULL)));
    client = tcp6();
    say("IPv6 client", connect_ip(client, "::1", port));
    say_name("accepted", must(accept(six, NULL, NULL)));
    if (argc > 2)
        return 0;

    must(close_range(3, ~0U, 0));
    int both = tcp6(), off = 0;
    must(setsockopt(both, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    must(setsockopt(both, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    if (say("dual stack", bind_ip(both, "::", 8080)) < 0)
        return 1;
    say_name("dual stack", both);
    must(listen(both, 1));
    say("IPv4 client", connect_ip(tcp(), "127.0.0.1", port));
    int server = must(accept(both, NULL, NULL));
    say_name("accepted", server);
    say("IPv6 client", connect_ip(tcp6(), "::1", port));
    say_name("accepted", must(accept(both, NULL, NULL)));
}
