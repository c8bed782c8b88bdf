// Limit: what a program starts after it has installed a filter of its own is
// not looked at.
//: driven
#include "filter.h"

int main(int argc, char **argv)
{
    struct sock_filter filter[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {COUNT(filter), filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    if (argc > 1)
        execv(argv[1], argv + 1);
    say("exec", -1);
}
