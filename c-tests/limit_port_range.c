// Limit: a moved listener that sets IP_LOCAL_PORT_RANGE itself has no room for
// the tag by which its connections find back to it. They are then known by the
// real address alone.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080
//: same
#include "check.h"

int main(int argc, char **argv)
{
    unsigned range = 40000 | 50000u << 16, told = 0;
    socklen_t length = sizeof told;
    int listener = tcp();

    say("set", setsockopt(listener, IPPROTO_IP, 51, &range, sizeof range));
    say("bind", bind_ip(listener, "127.0.0.1", 8080));
    say("listen", listen(listener, 5));
    say("get", getsockopt(listener, IPPROTO_IP, 51, &told, &length));
    printf("it is what was set: %s\n", told == range ? "yes" : "no");
    client_of(8080, argc > 1 ? argv[1] : NULL);
    say_name("accepted", must(accept(listener, NULL, NULL)));
}
