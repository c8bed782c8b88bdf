// A program under a seccomp filter that kills on any call which it does not
// make itself: the hooks make none besides.
//: unemulated QEMU refuses filters
//: case deny
//: rule deny bind tcp *:8080
//: stdout forbidden: EACCES
//: stdout allowed: ok
//: stdout listen: ok
//: case deny, counted
//: only run
//: rule deny bind tcp *:8080
//: stdout forbidden: EACCES
//: stdout allowed: ok
//: stdout listen: ok
//: log 1 deny bind
//: case a listen rule that cannot be evaluated refuses
//: only run
//: rule deny listen tcp *:8089
//: stdout forbidden: ok
//: stdout allowed: ok
//: stdout listen: EACCES
//: log 1 deny listen
//: record 1 {"call":"listen","reason":"what the socket is may not be asked"}
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: stdout forbidden: EACCES
//: stdout allowed: ok
//: stdout listen: ok
#include "filter.h"

int main(void)
{
    int first = tcp(), second = tcp();
    must(fflush(stdout));
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_bind),
        ALLOW(SYS_listen),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    struct address a = ip("127.0.0.1", 8080), b = ip("127.0.0.1", 8081);
    printf("%s", "");
    setvbuf(stdout, NULL, _IONBF, 0);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    say("forbidden", bind(first, &a.any, a.length));
    say("allowed", bind(second, &b.any, b.length));
    say("listen", listen(second, 1));
    _exit(0);
}
