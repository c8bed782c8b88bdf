// posix_spawnp() with an environment of one variable.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout environment: MINE=1
//: stdout bind: EACCES
//: log 1 deny bind
#include "exec_env.h"
#include <spawn.h>

int main(int argc, char **argv)
{
    if (argc > 1)
        return second_life();
    char *args[] = {argv[0], "again", NULL}, *own[] = {"MINE=1", NULL};
    pid_t child;
    errno = posix_spawnp(&child, "/proc/self/exe", NULL, NULL, args, own);
    must(errno ? -1 : 0);
    wait_for(child);
    return 0;
    return 1;
}
