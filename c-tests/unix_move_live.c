// A Unix path is moved to that of a live server which was bound under another
// spelling and in another network name space: the server keeps its file.
//: outside makes a namespace
//: user root
//: case move
//: rule move bind unix **/given to unix:$DIR/real
//: warns calls chmod()
//: args $DIR/given
//: stdout bind: EADDRINUSE
//: stdout the server is reached: ok
//: log 1 move bind
#include <sched.h>
#include <sys/wait.h>

#include "check.h"

static struct sockaddr_un name(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strncpy(un.sun_path, path, sizeof un.sun_path - 1);
    return un;
}

int main(int argc, char **argv)
{
    const char *given = argc > 1 ? argv[1] : "given";
    struct sockaddr_un real = name("./real");
    int server, ready[2], over[2], fd;
    char c;

    unlink("real");
    must(pipe(ready));
    must(pipe(over));
    if (must(fork()) == 0) {
        close(over[1]);
        must(unshare(CLONE_NEWNET));
        server = must(socket(AF_UNIX, SOCK_STREAM, 0));
        must(bind(server, (struct sockaddr *)&real, sizeof real));
        must(listen(server, 1));
        must(write(ready[1], "r", 1));
        must(read(over[0], &c, 1));
        _exit(0);
    }
    must(read(ready[0], &c, 1));
    fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un asked = name(given);
    say("bind", bind(fd, (struct sockaddr *)&asked, sizeof asked));
    fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
    say("the server is reached", connect(fd, (struct sockaddr *)&real, sizeof real));
    close(over[1]);
    wait(NULL);
    unlink("real");
    unlink(given);
}
