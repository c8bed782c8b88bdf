// A program in mounts of its own, with nothing in /tmp, /run and /dev/shm.
//: outside makes a namespace
//: user root
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: stdout after exec: EACCES
//: log 2 deny bind
#include "check.h"
#include <sched.h>
#include <sys/mount.h>

int main(int argc, char **argv)
{
    if (argc > 1) {
        say("after exec", bind_ip(tcp(), "127.0.0.1", 8080));
        return 0;
    }
    int self = must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    must(unshare(CLONE_NEWNS));
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    must(mount("none", "/dev/shm", "tmpfs", 0, NULL));
    must(mount("none", "/run", "tmpfs", 0, NULL));
    say("bind", bind_ip(tcp(), "127.0.0.1", 8080));
    char *args[] = {argv[0], "again", NULL};
    extern char **environ;
    fexecve(self, args, environ);
    return 1;
}
