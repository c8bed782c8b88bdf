// A rule for a program whose file is removed while it runs, and one whose file
// is really called so.
//: unfiltered starts a program, in which the library starts too
//: unlearned its program is another file in each directory
//: case deny
//: rule deny bind tcp *:8080 for removed
//: rule deny bind tcp *:8081 for "kept (deleted)"
//: stdout removed: EACCES
//: stdout kept: EACCES
//: log 2 deny bind
#include "check.h"

static void copy(const char *to)
{
    int in = must(open("/proc/self/exe", O_RDONLY)), out = must(open(to, O_WRONLY | O_CREAT, 0755));
    char buffer[4096];
    ssize_t n;
    while ((n = must(read(in, buffer, sizeof buffer))) > 0)
        must(write(out, buffer, (size_t)n) == n ? 0 : -1);
    close(in);
    close(out);
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        int fd = tcp();
        say(argv[1], bind_ip(fd, "127.0.0.1", !strcmp(argv[1], "removed") ? 8080 : 8081));
        return 0;
    }
    if (argc > 1) {
        // The second life: as another file, which goes away.
        if (!strcmp(argv[1], "removed"))
            must(unlink(argv[1]));
        char *args[] = {argv[0], argv[1], "again", NULL};
        execv("/proc/self/exe", args);
        return 1;
    }
    char *files[] = {"removed", "kept (deleted)"}, *names[] = {"removed", "kept"};
    for (int i = 0; i < 2; i++) {
        copy(files[i]);
        pid_t child = must(fork());
        if (child == 0) {
            char *args[] = {files[i], names[i], NULL};
            execv(files[i], args);
            _exit(1);
        }
        wait_for(child);
        unlink(files[i]);
    }
    return 0;
}
