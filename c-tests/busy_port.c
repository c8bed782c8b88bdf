// What the kernel refuses stays refused, in its own words.
//: case rules that match nothing
//: rule deny bind udp *:*
//: same
#include "check.h"

int main(void)
{
    int first = tcp();
    must(bind_ip(first, "127.0.0.1", 8080));
    must(listen(first, 1));
    say("busy", bind_ip(tcp(), "127.0.0.1", 8080));
    say("busy, from the wildcard", bind_ip(tcp(), "0.0.0.0", 8080));
    say("not here", bind_ip(tcp(), "192.0.2.1", 8080));
    say("reserved", bind_ip(tcp(), "127.0.0.1", 80));
    say("wrong family", bind_ip(tcp(), "::1", 8080));
    say("wrong family", bind_ip(tcp6(), "127.0.0.1", 8080));
    say("listen twice", listen(first, 5));
    say("bind of a listener", bind_ip(first, "127.0.0.1", 8081));
    struct address a = {.un.sun_family = AF_UNIX, .length = sizeof a.un};
    strcpy(a.un.sun_path, "socket");
    int u = must(socket(AF_UNIX, SOCK_STREAM, 0));
    say("unix", bind(u, &a.any, a.length));
    say("unix again", bind(must(socket(AF_UNIX, SOCK_STREAM, 0)), &a.any, a.length));
    strcpy(a.un.sun_path, "missing/socket");
    say("unix in no directory", bind(must(socket(AF_UNIX, SOCK_STREAM, 0)), &a.any, a.length));
    say("unix autobind", bind(must(socket(AF_UNIX, SOCK_DGRAM, 0)), &a.any, 2));
}
