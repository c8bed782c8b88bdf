// Limit: a Unix socket that is moved or hidden has no file under the path that
// the program asked for.
//: case move
//: rule move bind unix given to unix:$DIR/real
//: warns calls chmod()
//: stdout bind: ok
//: stdout chmod: ENOENT
//: stdout listen: ok
//: stdout connect: ENOENT
//: stdout name: given
//: case hide
//: rule hide bind unix given
//: stdout bind: ok
//: stdout chmod: ENOENT
//: stdout listen: ok
//: stdout connect: ENOENT
//: stdout name: given
#include "check.h"

int main(void)
{
    struct address a = {.length = sizeof a.un}, name = {.length = sizeof name.storage};
    int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
    int client = must(socket(AF_UNIX, SOCK_STREAM, 0));

    a.un.sun_family = AF_UNIX;
    strcpy(a.un.sun_path, "given");
    unlink(a.un.sun_path);
    say("bind", bind(fd, &a.any, a.length));
    say("chmod", chmod(a.un.sun_path, 0600));
    say("listen", listen(fd, 1));
    say("connect", connect(client, &a.any, a.length));
    must(getsockname(fd, &name.any, &name.length));
    printf("name: %s\n", name.un.sun_path);
    unlink(a.un.sun_path);
}
