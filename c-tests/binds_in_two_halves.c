// Binds as often as the first argument says; if there is a second, as often
// again once the file of that name is gone.
//: driven
#include "check.h"

static void bind_often(int count)
{
    for (int i = 0; i < count; i++) {
        int fd = tcp();
        must(bind_ip(fd, "127.0.0.1", 8080));
        close(fd);
    }
}

int main(int argc, char **argv)
{
    int count = atoi(argv[1]);
    bind_often(count);
    say_number("binds", count);
    if (argc > 2) {
        while (access(argv[2], F_OK) == 0)
            usleep(1000);
        bind_often(count);
        say_number("binds", count);
    }
}
