// posix_spawn() rearranges descriptors inside libc, where no hook sees it.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind udp *:8080
//: stdout bind in the child: EACCES
//: stdout bind in the parent: ok
//: log 1 deny bind
#include "check.h"
#include <spawn.h>

extern char **environ;

int main(int argc, char **argv)
{
    if (argc > 1) {
        say("bind in the child", bind_ip(20, "127.0.0.1", 8080));
        return 0;
    }
    int stream = must(dup2(tcp(), 20));
    int datagram = must(dup2(udp(), 21));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, datagram, 20);
    posix_spawn_file_actions_addclose(&actions, 21);
    char *args[] = {argv[0], "child", NULL};
    pid_t child;
    errno = posix_spawn(&child, "/proc/self/exe", &actions, NULL, args, environ);
    must(errno ? -1 : 0);
    wait_for(child);
    say("bind in the parent", bind_ip(stream, "127.0.0.1", 8080));
}
