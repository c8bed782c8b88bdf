// popen() after the environment was cleared.
//: unfiltered starts a shell, in which the library starts too
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
    char command[4200];
    snprintf(command, sizeof command, "%s again", argv[0]);
    clearenv();
    setenv("MINE", "1", 1);
    FILE *child = popen(command, "r");
    must(child ? 0 : -1);
    char line[200];
    while (fgets(line, sizeof line, child))
        if (strncmp(line, "environment: PWD=", 17))
            fputs(line, stdout);
    must(pclose(child));
    return 0;
}
