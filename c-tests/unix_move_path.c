// A server whose Unix path is moved removes the file that it knows of, as
// servers do, and not the real one: it finds its place again all the same.
// While it lives, a second one does not.
//: case move
//: rule move bind unix **/given to unix:$DIR/real
//: warns calls chmod()
//: args $DIR/given
//: same
//: log 3 move bind
#include "check.h"

static int serve(const char *what, const char *path)
{
    struct address a = {.length = sizeof a.un};
    int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
    a.un.sun_family = AF_UNIX;
    strncpy(a.un.sun_path, path, sizeof a.un.sun_path - 1);
    if (say(what, bind(fd, &a.any, a.length)) == 0)
        say("listen", listen(fd, 1));
    return fd;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "given";

    unlink(path);
    int first = serve("first", path);
    close(serve("second", path));
    close(first);
    unlink(path);
    close(serve("third", path));
    unlink(path);
}
