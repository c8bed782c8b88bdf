// The same for an IPv6 server.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: args $DIR/s
//: stdout bind: ok
//: stdout name: [::]:8080 (28 bytes)
//: stdout accept: ok
//: stdout peer's family: 10
//: stdout name's family: 10
#include "check.h"

int main(int argc, char **argv)
{
    int listener = tcp6();
    say("bind", bind_ip(listener, "::", 8080));
    say_name("name", listener);
    must(listen(listener, 1));
    client_of(8080, argc > 1 ? argv[1] : NULL);
    struct address peer = {.length = sizeof peer.storage}, name = peer;
    int server = say("accept", accept(listener, &peer.any, &peer.length));
    must(getsockname(server, &name.any, &name.length));
    say_number("peer's family", peer.any.sa_family);
    say_number("name's family", name.any.sa_family);
}
