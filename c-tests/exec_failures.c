// exec and spawn that fail give the same errno, and bad pointers do no harm.
//: case deny
//: rule deny bind tcp *:8080
//: same
#include "check.h"
#include <spawn.h>

int main(void)
{
    char *args[] = {"x", NULL}, *own[] = {"MINE=1", NULL};
    char *volatile null = NULL, *volatile one = (char *)1;
    say("missing", execve("/nonexistent", args, own));
    say("a directory", execve("/", args, own));
    say("null path", execve(null, args, own));
    say("bad path", execve(one, args, own));
    say("bad args", execve("/proc/self/exe", (char **)one, own));
    say("bad environment", execve("/proc/self/exe", args, (char **)one));
    char *holes[] = {one, NULL};
    say("bad string in the environment", execve("/proc/self/exe", args, holes));
    say("execvp", execvp("surely-no-such-program", args));
    say("execl", execl("/nonexistent", "x", NULL));
    say("execle", execle("/nonexistent", "x", NULL, own));
    say("fexecve", fexecve(-1, args, own));
    pid_t child;
    errno = posix_spawn(&child, "/nonexistent", NULL, NULL, args, own);
    say("posix_spawn", errno ? -1 : 0);
    errno = posix_spawnp(&child, "surely-no-such-program", NULL, NULL, args, own);
    say("posix_spawnp", errno ? -1 : 0);
    say("bind", bind_ip(tcp(), "127.0.0.1", 8081));
}
