// An environment of about one megabyte goes through exec unharmed.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout variables: 500
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"

enum { VARIABLES = 500, SIZE = 2000 };

extern char **environ;

int main(int argc, char **argv)
{
    if (argc > 1) {
        long whole = 0;
        for (char **e = environ; *e; e++)
            whole += strncmp(*e, "BIG", 3) == 0 && strlen(*e) == SIZE - 1;
        say_number("variables", whole);
        say("bind", bind_ip(tcp(), "127.0.0.1", 8080));
        return 0;
    }
    char **own = calloc(VARIABLES + 1, sizeof *own);
    for (int i = 0; i < VARIABLES; i++) {
        own[i] = malloc(SIZE);
        memset(own[i], 'x', SIZE);
        own[i][sprintf(own[i], "BIG%03d=", i)] = 'x';
        own[i][SIZE - 1] = 0;
    }
    execve("/proc/self/exe", (char *[]){argv[0], "again", NULL}, own);
    say("execve", -1);
    return 1;
}
