// A program in a new root of its own, after chroot() or pivot_root() in mounts
// of its own: the rules hold there, and in a program that it starts there, if
// the library is there too, under the same path. Where it is not there, such
// a program cannot be seen, and is not started.
//: outside makes a namespace; for chroot see `below a filter: a new root without /proc`
//: user root
//: unfiltered starts a program, in which the library starts too
//: unlearned in a new root the name of the program is another one
//: case chroot
//: args chroot
//: unwritten 2
//: rule deny bind tcp *:8080
//: rule move bind tcp *:8081 to loopback:18081
//: stdout bind: EACCES
//: stdout moved: ok
//: stdout after exec: EACCES
//: stdout name after exec: 127.0.0.1:8081 (16 bytes)
//: case chroot, counted
//: only run
//: args chroot
//: rule deny bind tcp *:8080
//: rule move bind tcp *:8081 to loopback:18081
//: stdout bind: EACCES
//: stdout moved: ok
//: stdout after exec: EACCES
//: stdout name after exec: 127.0.0.1:8081 (16 bytes)
//: log 2 deny bind
//: log 1 move bind
//: case pivot_root
//: only run
//: args pivot_root
//: rule deny bind tcp *:8080
//: rule move bind tcp *:8081 to loopback:18081
//: stdout bind: EACCES
//: stdout moved: ok
//: stdout after exec: EACCES
//: stdout name after exec: 127.0.0.1:8081 (16 bytes)
//: log 2 deny bind
//: log 1 move bind
//: case without the library
//: args chroot without
//: unwritten 5
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: stdout moved: ok
//: stdout exec: EACCES
//: case without the library, counted
//: only run
//: args chroot without
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: stdout moved: ok
//: stdout exec: EACCES
//: log 1 deny bind
//: log 1 deny exec
#include "filter.h"
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sendfile.h>

static const char root[] = "root";

// ROOT/PATH, of which all directories are there then.
static const char *in_root(const char *path)
{
    static char to[2 * PATH_MAX];
    snprintf(to, sizeof to, "%s%s", root, path);
    for (char *slash = to; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(to, 0755);
        *slash = '/';
    }
    return to;
}

static void copy(const char *path, const char *to)
{
    int from = open(path, O_RDONLY);
    struct stat about;
    if (from < 0 || fstat(from, &about) < 0 || !S_ISREG(about.st_mode)) {
        close(from);
        return;
    }
    int fd = must(open(in_root(to), O_WRONLY | O_CREAT, 0755));
    while (must(sendfile(fd, from, NULL, 1 << 20)) > 0)
        ;
    close(fd);
    close(from);
}

// All that this program consists of, and the loader by the name that is in it.
static void furnish(int with_library)
{
    char line[PATH_MAX + 200];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        char *path = strchr(line, '/');
        if (!path || (!with_library && strstr(path, "libbindgate.so")))
            continue;
        path[strcspn(path, "\n")] = 0;
        copy(path, path);
        if (strncmp(basename(path), "ld-linux-x86-64", 15) == 0)
            copy(path, "/lib64/ld-linux-x86-64.so.2");
        if (strncmp(basename(path), "ld-linux-aarch64", 16) == 0)
            copy(path, "/lib/ld-linux-aarch64.so.1");
    }
    fclose(maps);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "again") == 0) {
        say("after exec", bind_ip(tcp(), "127.0.0.1", 8080));
        say_name("name after exec", atoi(argv[2]));
        return 0;
    }
    char own[PATH_MAX] = {0}, number[12];
    must(readlink("/proc/self/exe", own, sizeof own - 1));
    must(mkdir(root, 0755));
    const char *how = argc > 2 ? argv[2] : "";
    furnish(strcmp(how, "without") != 0);
    if (argc > 1 && strcmp(argv[1], "pivot_root") == 0) {
        must(unshare(CLONE_NEWNS));
        must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
        must(mount(root, root, NULL, MS_BIND, NULL));
        must(chdir(root));
        must(syscall(SYS_pivot_root, ".", "."));
        must(umount2(".", MNT_DETACH));
    } else {
        must(chroot(root));
    }
    must(chdir("/"));
    say("bind", bind_ip(tcp(), "127.0.0.1", 8080));
    int fd = tcp();
    say("moved", bind_ip(fd, "127.0.0.1", 8081));
    if (strcmp(how, "filtered") == 0) {
        struct sock_filter filter[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {COUNT(filter), filter};
        must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    }
    snprintf(number, sizeof number, "%d", fd);
    execl(own, own, "again", number, NULL);
    say("exec", -1);
}
