// Limit: a client in the same run is not led to where a server was moved; that
// takes a rule for connect.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: stdout bind: ok
//: stdout listen: ok
//: stdout connect: ECONNREFUSED
//: case connect
//: rule move bind tcp *:8080 to loopback:18080
//: rule move connect tcp *:8080 to loopback:18080
//: stdout bind: ok
//: stdout listen: ok
//: stdout connect: ok
//: stdout peer: 127.0.0.1:8080
#include "check.h"

int main(void)
{
    int listener = tcp(), client = tcp();

    say("bind", bind_ip(listener, "127.0.0.1", 8080));
    say("listen", listen(listener, 5));
    if (say("connect", connect_ip(client, "127.0.0.1", 8080)) == 0) {
        struct address peer = {.length = sizeof peer.storage};
        must(getpeername(client, &peer.any, &peer.length));
        printf("peer: %s\n", text(&peer));
    }
}
