// A program that replaces itself with an environment of its own making, and
// then shows which one it got and binds.
#ifndef EXEC_ENV_H
#define EXEC_ENV_H

#include "check.h"

extern char **environ;

// In the second life: says what is left, apart from what bindgate puts there.
__attribute__((unused)) static int second_life(void)
{
    for (char **e = environ; *e; e++)
        if (strncmp(*e, "LD_PRELOAD=", 11) && strncmp(*e, "BINDGATE", 8))
            printf("environment: %s\n", *e);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    return 0;
}

#endif
