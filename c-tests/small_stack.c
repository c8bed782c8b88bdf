// Programs are started from a thread with the smallest stack there is.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout posix_spawn: ok
//: stdout status 0
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

    say("posix_spawn", posix_spawnp(&child, "true", NULL, NULL, args, environ));
    must(waitpid(child, &status, 0));
    printf("status %d\n", status);
    fflush(stdout);
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
