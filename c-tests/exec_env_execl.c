// clearenv(), then execl().
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: log 1 deny bind
#include "exec_env.h"

int main(int argc, char **argv)
{
    if (argc > 1)
        return second_life();
    clearenv();
    execl("/proc/self/exe", argv[0], "again", NULL);
    return 1;
}
