// Programs are started from a thread with the smallest stack there is.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout posix_spawn: ok
//: stdout status: 0
//: stdout posix_spawnp: ok
//: stdout status: 0
//: stdout fork, execl: status: 0
//: stdout vfork, execve: status: 0
//: stdout vfork, execvp: status: 0
//: stdout and gone
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <spawn.h>

extern char **environ;

static void *starter(void *nothing)
{
    char *args[] = {"true", NULL};
    pid_t child;
    int status;

    say("posix_spawn", posix_spawn(&child, "/bin/true", NULL, NULL, args, environ));
    must(waitpid(child, &status, 0));
    say_number("status", status);
    say("posix_spawnp", posix_spawnp(&child, "true", NULL, NULL, args, environ));
    must(waitpid(child, &status, 0));
    say_number("status", status);
    if ((child = must(fork())) == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    must(waitpid(child, &status, 0));
    say_number("fork, execl: status", status);
    if ((child = must(vfork())) == 0) {
        execve("/bin/true", args, environ);
        _exit(1);
    }
    must(waitpid(child, &status, 0));
    say_number("vfork, execve: status", status);
    if ((child = must(vfork())) == 0) {
        execvp("true", args);
        _exit(1);
    }
    must(waitpid(child, &status, 0));
    say_number("vfork, execvp: status", status);
    execlp("echo", "echo", "and", "gone", NULL);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
    pthread_create(&thread, &attributes, starter, NULL);
    pthread_join(thread, NULL);
}
