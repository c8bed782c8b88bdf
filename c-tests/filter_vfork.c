// A vfork child installs a seccomp filter for itself and executes something:
// the parent, whose memory it had, is under none.
//: unemulated QEMU refuses filters
//: unfiltered installs a filter and starts a program, in which the library starts too
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: stdout bind: ok
//: stdout name: 0.0.0.0:8080 (16 bytes)
//: log 1 move bind
#include "filter.h"

int main(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ON(SYS_getsockopt, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    pid_t child = must(vfork());
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
            _exit(98);
        execl("/bin/true", "true", NULL);
        _exit(99);
    }
    wait_for(child);
    int fd = tcp();
    say("bind", bind_ip(fd, "0.0.0.0", 8080));
    say_name("name", fd);
}
