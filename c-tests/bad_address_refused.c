// A filter that nobody saw being installed answers bind itself: the kernel has
// not read the address, so neither may the record's maker, unasked.
//: unemulated QEMU refuses filters
//: case a rule
//: rule deny bind tcp *:8080
//: stdout nowhere: EPERM
//: stdout there: EPERM
//: case a rule, counted
//: only run
//: rule note bind tcp *:8080
//: stdout nowhere: EPERM
//: stdout there: EPERM
//: log 2 allow bind
#include "filter.h"

int main(void)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(page == MAP_FAILED ? -1 : 0);
    must(munmap(page, 4096));
    int fd = tcp();
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ON(SYS_bind, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(past_libc(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&program));
    say("nowhere", bind(fd, (struct sockaddr *)page, sizeof(struct sockaddr_in)));
    static struct address a;
    a = ip("127.0.0.1", 8081);
    say("there", bind(fd, &a.any, a.length));
}
