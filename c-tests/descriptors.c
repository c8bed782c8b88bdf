// The program has the descriptors that it made and no others, at every moment.
//: unfiltered starts a program, in which the library starts too
//: case rules
//: rule deny bind tcp *:8080
//: rule move bind tcp *:8081 to loopback:18081
//: rule move bind tcp *:8082 to unix:$DIR/s
//: rule hide bind tcp *:8083
//: rule deny listen tcp 127.0.0.9:*
//: same
#include "check.h"
#include <dirent.h>

static void show(const char *when)
{
    printf("%s:", when);
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(dir))
            printf(" %s", e->d_name);
    closedir(dir);
    printf("\n");
}

__attribute__((constructor)) static void early(void) { show("constructor"); }

int main(int argc, char **argv)
{
    show("main");
    if (argc > 1)
        return 0;
    for (int port = 8080; port < 8085; port++) {
        int fd = tcp(), result = bind_ip(fd, "127.0.0.1", port);
        show("after bind");
        if (result == 0)
            listen(fd, 1);
        show("after listen");
        close(fd);
        show("after close");
    }
    pid_t child = must(fork());
    if (child == 0) {
        show("child");
        _exit(fflush(stdout));
    }
    wait_for(child);
    fflush(stdout);
    execl("/proc/self/exe", argv[0], "again", NULL);
}
