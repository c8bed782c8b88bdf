// Standard error, which the log of a preload goes to, is a pipe that nobody
// reads any more: the program gets no SIGPIPE for a line of bindgate's.
//: driven
#include "check.h"

int main(void)
{
    int pipes[2];
    must(pipe(pipes));
    close(pipes[0]);
    must(dup2(pipes[1], 2));
    say("bind", bind_ip(tcp(), "127.0.0.1", 0));
}
