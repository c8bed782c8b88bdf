// execv() after our variables were not removed but emptied.
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
    clearenv();
    setenv("MINE", "1", 1);
    const char *ours[] = {"LD_PRELOAD", "BINDGATE_RUN", "BINDGATE_RULES", "BINDGATE_LOG"};
    for (size_t n = 0; n < COUNT(ours); n++)
        setenv(ours[n], "", 1);
    char *args[] = {argv[0], "again", NULL};
    execv("/proc/self/exe", args);
    return 1;
}
