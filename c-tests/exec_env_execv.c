// execv() with environ pointing elsewhere.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout environment: MINE=1
//: stdout bind: EACCES
//: log 1 deny bind
#include "exec_env.h"

int main(int argc, char **argv)
{
    if (argc > 1)
        return second_life();
    char *args[] = {argv[0], "again", NULL}, *own[] = {"MINE=1", NULL};
    environ = own;
    execv("/proc/self/exe", args);
    return 1;
}
