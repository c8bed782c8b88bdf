// A server that gives up its privileges, as servers do: the rules hold before
// and after, in its children, and over exec.
//: user root
//: unfiltered starts a program, in which the library starts too
//: case deny
//: unwritten 2
//: rule deny bind tcp *:8080
//: stdout as root: EACCES
//: stdout as nobody: EACCES
//: stdout in a child: EACCES
//: stdout after exec: EACCES
//: case deny, counted
//: only run
//: rule deny bind tcp *:8080
//: stdout as root: EACCES
//: stdout as nobody: EACCES
//: stdout in a child: EACCES
//: stdout after exec: EACCES
//: log 4 deny bind
//: case deny to a user
//: unwritten 2
//: rule deny bind tcp *:8080 user nobody
//: stdout as root: ok
//: stdout as nobody: EACCES
//: stdout in a child: EACCES
//: stdout after exec: EACCES
#include "check.h"
#include <grp.h>

static void try(const char *who)
{
    int fd = tcp();
    say(who, bind_ip(fd, "127.0.0.1", 8080));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        try("after exec");
        return 0;
    }
    try("as root");
    must(setgroups(0, NULL));
    must(setresgid(65534, 65534, 65534));
    must(setresuid(65534, 65534, 65534));
    try("as nobody");
    pid_t child = must(fork());
    if (child == 0) {
        try("in a child");
        _exit(0);
    }
    wait_for(child);
    execl("/proc/self/exe", argv[0], "again", NULL);
}
