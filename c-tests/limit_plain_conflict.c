// Limit: under a plain preload a program knows its own redirected sockets and
// those that were handed on to it. Two programs can each have the same address
// moved; under the launcher the second is told that it is in use.
//: unfiltered starts a program, in which the library starts too
//: case preload
//: only preload
//: rule move bind tcp *:8080 to loopback:auto
//: stdout first: ok
//: stdout second: ok
//: case run
//: only run
//: rule move bind tcp *:8080 to loopback:auto
//: stdout first: ok
//: stdout second: EADDRINUSE
#include "check.h"

int main(int argc, char **argv)
{
    int to[2], from[2];
    char byte = 0;

    if (argc > 1) {
        // It has started before the first one binds.
        if (write(atoi(argv[1]), &byte, 1) != 1 || read(0, &byte, 1) != 1)
            return 1;
        say("second", bind_ip(tcp(), "127.0.0.1", 8080));
        return 0;
    }
    must(pipe(to));
    must(pipe(from));
    pid_t pid = must(fork());
    if (pid == 0) {
        must(dup2(to[0], 0));
        close(to[0]);
        close(to[1]);
        char number[12];
        snprintf(number, sizeof number, "%d", from[1]);
        execl(argv[0], argv[0], number, NULL);
        _exit(1);
    }
    close(to[0]);
    close(from[1]);
    if (read(from[0], &byte, 1) != 1)
        return 1;
    say("first", bind_ip(tcp(), "127.0.0.1", 8080));
    fflush(stdout);
    must(write(to[1], &byte, 1));
    int status;
    must(waitpid(pid, &status, 0));
    return status;
}
