// A program that starts behind a seccomp filter, which lives on over exec: from
// its first call on the library asks nothing that the filter forbids.
//: unemulated QEMU refuses filters
//: unfiltered starts a program, in which the library starts too
//: case deny
//: only run
//: rule deny bind tcp *:8080
//: rule deny listen tcp *:8082
//: stdout forbidden: EACCES
//: stdout allowed: ok
//: stdout listen: EACCES
//: log 1 deny bind
//: log 1 deny listen
#include "filter.h"

#define KILL(number) ON(number, SECCOMP_RET_KILL_PROCESS)

int main(int argc, char **argv)
{
    if (argc == 1) {
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            KILL(SYS_getsockopt),
            KILL(SYS_getsockname),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {COUNT(filter), filter};
        must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
        execl("/proc/self/exe", argv[0], "again", NULL);
        must(-1);
    }
    int first = tcp(), second = tcp();
    say("forbidden", bind_ip(first, "127.0.0.1", 8080));
    say("allowed", bind_ip(second, "127.0.0.1", 0));
    say("listen", listen(second, 1));
}
