// A library that shuts its program up behind a seccomp filter before main, as
// sandboxed programs do it: through libc, so that bindgate can see it.
// FILTER_FOR names the program, FILTER_CALLS the numbers of the calls that it
// may make; any other one kills it. Without FILTER_CALLS there is only a mark
// for whoever traces it.
//: driven
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

__attribute__((constructor)) static void start(void)
{
    const char *program = getenv("FILTER_FOR"), *calls = getenv("FILTER_CALLS");
    if (!program || strcmp(program, program_invocation_short_name))
        return;
    static struct sock_filter filter[1024];
    unsigned short n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (; calls && *calls && n < 1000; calls += strspn(calls, ",")) {
        unsigned number = (unsigned)strtoul(calls, (char **)&calls, 10);
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog all = {n, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _exit(98);
    if (!getenv("FILTER_CALLS")) {
        if (lseek(-1, 0x66696c746572, SEEK_SET) >= 0)
            _exit(98);
    } else if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all, 0, 0)) {
        _exit(98);
    }
}
