// A server that ends and starts anew finds its place again, though the Unix
// socket's file is still there; while it lives, a second one does not.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: same
#include "check.h"

static int serve(const char *what)
{
    int fd = tcp(), on = 1;
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    if (say(what, bind_ip(fd, "127.0.0.1", 8080)) == 0)
        say("listen", listen(fd, 1));
    return fd;
}

int main(void)
{
    int first = serve("first");
    close(serve("second"));
    close(first);
    close(serve("third"));
    pid_t child = must(fork());
    if (child == 0) {
        serve("in a child that is killed");
        raise(SIGKILL);
    }
    waitpid(child, NULL, 0);
    serve("after it");
}
