// Behind a seccomp filter that the program installed nobody may ask whether a
// socket is one that was made in the place of a vsock one.
//: unemulated QEMU refuses filters
//: ruled it shows what a carrier is
//: case carrier
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout before: ok
//: stdout moved: EINVAL
//: stdout not moved: EINVAL
#include "filter.h"
#include "vsock.h"

int main(void)
{
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    say("before", bind_vm(fds[0], VMADDR_CID_ANY, 5000));
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_bind),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    setvbuf(stdout, NULL, _IONBF, 0);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    say("moved", bind_vm(fds[1], VMADDR_CID_ANY, 5000));
    say("not moved", bind_vm(fds[2], VMADDR_CID_ANY, VMADDR_PORT_ANY));
    _exit(0);
}
