// A program that starts another one with an effective user that is not its
// real one: the loader drops LD_PRELOAD then. With an argument it lets
// posix_spawn() make them the same first.
//: driven
#include "check.h"
#include <spawn.h>
#include <sys/auxv.h>

extern char **environ;

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "again")) {
        say_number("secure", (long)getauxval(AT_SECURE));
        return 0;
    }
    char *args[] = {argv[0], "again", NULL};
    must(seteuid(65534));
    if (argc > 1) {
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_RESETIDS);
        pid_t child;
        errno = posix_spawn(&child, argv[0], NULL, &attributes, args, environ);
        must(errno ? -1 : 0);
        wait_for(child);
        return 0;
    }
    execv(argv[0], args);
    say("exec", -1);
}
