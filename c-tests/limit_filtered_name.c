// Behind a seccomp filter nothing may be asked, not even which socket it is: a
// moved one's names are the real ones.
//: unemulated QEMU refuses filters
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080
//: stdout bind: ok
//: stdout name: 127.0.0.1:8080 (16 bytes)
//: stdout name behind the filter: 127.0.0.1:18080 (16 bytes)
//: stdout name of what it accepted: 127.0.0.1:18080 (16 bytes)
//: stdout the client's peer: 127.0.0.1:18080 (16 bytes)
#include "filter.h"

int main(int argc, char **argv)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    must(listen(fd, 1));
    say_name("name", fd);
    int client = client_of(8080, argc > 1 ? argv[1] : NULL);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_accept),
        ALLOW(SYS_getsockname),
        ALLOW(SYS_getpeername),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    setvbuf(stdout, NULL, _IONBF, 0);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    say_name("name behind the filter", fd);
    say_name("name of what it accepted", accept(fd, NULL, NULL));
    struct address a = {.length = sizeof a.storage};
    must(getpeername(client, &a.any, &a.length));
    printf("the client's peer: %s (%u bytes)\n", text(&a), a.length);
    _exit(0);
}
