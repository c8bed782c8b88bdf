// A second socket on the same virtual address conflicts as it would have
// without the move, with and without SO_REUSEADDR and SO_REUSEPORT.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: same
//: case port only
//: rule move bind tcp *:8080 to *:18080
//: same
#include "check.h"

static int make(int option, const char *host)
{
    int fd = tcp(), on = 1;
    if (option)
        must(setsockopt(fd, SOL_SOCKET, option, &on, sizeof on));
    if (bind_ip(fd, host, 8080) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int main(void)
{
    int first = make(0, "127.0.0.1");
    say("first", first);
    say("second", make(0, "127.0.0.1"));
    say("second with SO_REUSEADDR", make(SO_REUSEADDR, "127.0.0.1"));
    close(first);
    first = say("first with SO_REUSEADDR", make(SO_REUSEADDR, "127.0.0.1"));
    int second = say("second with SO_REUSEADDR", make(SO_REUSEADDR, "127.0.0.1"));
    say("the first listens", listen(first, 1));
    say("the second listens", listen(second, 1));
    say("third with SO_REUSEADDR", make(SO_REUSEADDR, "127.0.0.1"));
    close(first);
    close(second);
    first = say("first with SO_REUSEPORT", make(SO_REUSEPORT, "127.0.0.1"));
    second = say("second with SO_REUSEPORT", make(SO_REUSEPORT, "127.0.0.1"));
    say("both listen", listen(first, 1) | listen(second, 1));
    say("third without", make(0, "127.0.0.1"));
    close(first);
    close(second);
    say("after all are closed", make(0, "127.0.0.1"));
}
