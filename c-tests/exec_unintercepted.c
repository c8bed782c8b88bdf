// Every way to start the program in static/only_static by a name that is not
// simply a path: its argument says which.
//: driven
#include "check.h"
#include <spawn.h>

extern char **environ;
static char *arguments[] = {"only_static", NULL};

static void spawned(int error, pid_t child)
{
    errno = error;
    if (say("spawn", error ? -1 : 0) == 0)
        wait_for(child);
}

// "./", and then as much of `step` as makes a path of 3,000 bytes.
static char *far(const char *step)
{
    char *path = calloc(1, 4096);
    strcpy(path, ".");
    while (strlen(path) < 3000)
        strcat(path, step);
    return strcat(path, "/static/only_static");
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    const char *plain = "static/only_static";
    int dir = must(open("static", O_RDONLY | O_DIRECTORY));
    pid_t child = 0;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (!strcmp(how, "execv"))
        execv(plain, arguments);
    else if (!strcmp(how, "execveat"))
        execveat(dir, "only_static", arguments, environ, 0);
    else if (!strcmp(how, "execveat, empty path allowed"))
        execveat(dir, "only_static", arguments, environ, AT_EMPTY_PATH);
    else if (!strcmp(how, "execveat, empty path"))
        execveat(open(plain, O_PATH), "", arguments, environ, AT_EMPTY_PATH);
    else if (!strcmp(how, "fexecve"))
        fexecve(open(plain, O_RDONLY), arguments, environ);
    else if (!strcmp(how, "syscall"))
        syscall(SYS_execveat, dir, "only_static", arguments, environ, 0);
    else if (!strcmp(how, "slashes"))
        execv(far("/"), arguments);
    else if (!strcmp(how, "dots"))
        execv(far("/."), arguments);
    else if (!strcmp(how, "PATH")) {
        setenv("PATH", "nowhere:static", 1);
        execvp("only_static", arguments);
    } else if (!strcmp(how, "empty PATH entry")) {
        setenv("PATH", "/nowhere:", 1);
        must(chdir("static"));
        execvp("only_static", arguments);
    } else if (!strcmp(how, "long PATH entry")) {
        char *path = far("/.");
        *strrchr(path, '/') = 0;
        setenv("PATH", path, 1);
        execlp("only_static", "only_static", NULL);
    } else if (!strcmp(how, "behind a PATH entry that is too long")) {
        char *path = calloc(1, 8192);
        memset(path, 'x', 5000);
        setenv("PATH", strcat(path, ":nowhere:static"), 1);
        execvp("only_static", arguments);
    } else if (!strcmp(how, "behind one that cannot start")) {
        // The interpreter of broken/only_static is not there.
        setenv("PATH", "broken:static", 1);
        execvp("only_static", arguments);
    } else if (!strcmp(how, "spawn")) {
        spawned(posix_spawn(&child, plain, NULL, NULL, arguments, environ), child);
    } else if (!strcmp(how, "spawn, chdir")) {
        posix_spawn_file_actions_addchdir_np(&actions, "static");
        spawned(posix_spawn(&child, "./only_static", &actions, NULL, arguments, environ), child);
    } else if (!strcmp(how, "spawn, fchdir")) {
        posix_spawn_file_actions_addfchdir_np(&actions, dir);
        spawned(posix_spawn(&child, "./only_static", &actions, NULL, arguments, environ), child);
    } else if (!strcmp(how, "spawn, open and fchdir")) {
        posix_spawn_file_actions_addclose(&actions, dir);
        posix_spawn_file_actions_addopen(&actions, 100, "static", O_RDONLY | O_DIRECTORY, 0);
        posix_spawn_file_actions_adddup2(&actions, 100, 101);
        posix_spawn_file_actions_addfchdir_np(&actions, 101);
        spawned(posix_spawn(&child, "./only_static", &actions, NULL, arguments, environ), child);
    } else if (!strcmp(how, "spawnp, chdir")) {
        posix_spawn_file_actions_addchdir_np(&actions, "static");
        setenv("PATH", "/nowhere:.", 1);
        spawned(posix_spawnp(&child, "only_static", &actions, NULL, arguments, environ), child);
    } else
        return 99;
    if (strncmp(how, "spawn", 5))
        say("exec", -1);
}
