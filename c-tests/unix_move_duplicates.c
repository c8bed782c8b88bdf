// A duplicate made before the bind is still the same socket after it.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: args $DIR/s
//: same
//: log 1 move bind
#include "check.h"

int main(int argc, char **argv)
{
    int first = tcp();
    int copy = must(fcntl(first, F_DUPFD_CLOEXEC, 60));
    int other = tcp();
    say("bind", bind_ip(first, "127.0.0.1", 8080));
    say_name("the duplicate", copy);
    say_number("close-on-exec of the first", fcntl(first, F_GETFD));
    say_number("close-on-exec of the duplicate", fcntl(copy, F_GETFD));
    say("bind of the duplicate", bind_ip(copy, "127.0.0.1", 8081));
    must(fcntl(first, F_SETFL, O_NONBLOCK));
    say_number("file flags are shared", !!(fcntl(copy, F_GETFL) & O_NONBLOCK));
    must(fcntl(first, F_SETFL, 0));
    say("listen on the duplicate", listen(copy, 1));
    close(first);
    client_of(8080, argc > 1 ? argv[1] : NULL);
    say("accept on the duplicate", accept(copy, NULL, NULL));
    say_name("another socket", other);
}
