// Binds a port, unless that is 0, and listens.
//: driven
#include "check.h"

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0, fd = tcp();
    if (port) {
        if (say("bind", bind_ip(fd, "0.0.0.0", port)) < 0)
            return 0;
        say_name("name", fd);
        say_real_name("real name", fd);
    }
    say("listen", listen(fd, 1));
}
