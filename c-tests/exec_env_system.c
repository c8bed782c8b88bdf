// system() after the environment was cleared, bereft of LD_PRELOAD, or thrown away.
//: unfiltered starts a shell, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: stdout bind: EACCES
//: stdout bind: EACCES
//: log 3 deny bind
#include "exec_env.h"

// The shell sets variables of its own.
static int bound_again(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return say("bind", bind_ip(fd, "127.0.0.1", 8080)) * 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return bound_again();
    char command[4200];
    snprintf(command, sizeof command, "%s again", argv[0]);
    clearenv();
    must(system(command));
    unsetenv("LD_PRELOAD");
    must(system(command));
    environ = NULL;
    must(system(command));
    return 0;
}
