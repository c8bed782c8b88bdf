// Addresses that are not there, behind a seccomp filter of the program's own:
// EFAULT, and no crash. Where the address of a bind is, is asked by no other
// call than the one that the program makes: the filter kills on the others.
//: unemulated QEMU refuses filters
//: unfiltered strace says on standard error that it cannot read the addresses
//: case a rule
//: rule deny bind tcp *:8080
//: rule deny connect tcp *:8080
//: stdout bind nowhere: EFAULT
//: stdout bind half there: EFAULT
//: stdout bind too long: EINVAL
//: stdout bind no socket: EBADF
//: stdout bind port 8080: EACCES
//: stdout bind port 8081: ok
//: stdout connect nowhere: EFAULT
//: stdout connect half there: EFAULT
//: stdout connect port 8080: EACCES
//: stdout sendmsg nowhere: EFAULT
//: case a rule, counted
//: only run
//: rule deny bind tcp *:8080
//: stdout bind nowhere: EFAULT
//: stdout bind half there: EFAULT
//: stdout bind too long: EINVAL
//: stdout bind no socket: EBADF
//: stdout bind port 8080: EACCES
//: stdout bind port 8081: ok
//: stdout connect nowhere: EFAULT
//: stdout connect half there: EFAULT
//: stdout connect port 8080: ECONNREFUSED
//: stdout sendmsg nowhere: EFAULT
//: log 1 deny bind
#include "filter.h"

int main(void)
{
    // Two pages, of which the second one is taken away again.
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(pages == MAP_FAILED ? -1 : 0);
    must(munmap(pages + 4096, 4096));
    struct sockaddr *nowhere = (struct sockaddr *)(pages + 4096);
    struct sockaddr *half = (struct sockaddr *)(pages + 4096 - 8);
    memcpy(half, &(sa_family_t){AF_INET}, sizeof(sa_family_t));
    struct sockaddr_in *there = (struct sockaddr_in *)pages;
    there->sin_family = AF_INET;
    there->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = tcp(), other = tcp(), client = tcp(), datagrams = udp();
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_bind),
        ALLOW(SYS_connect),
        ALLOW(SYS_sendmsg),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    setvbuf(stdout, NULL, _IONBF, 0);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));

    say("bind nowhere", bind(fd, nowhere, sizeof *there));
    say("bind half there", bind(fd, half, sizeof *there));
    say("bind too long", bind(fd, nowhere, 129));
    say("bind no socket", bind(-1, nowhere, sizeof *there));
    there->sin_port = htons(8080);
    say("bind port 8080", bind(fd, (struct sockaddr *)there, sizeof *there));
    there->sin_port = htons(8081);
    say("bind port 8081", bind(other, (struct sockaddr *)there, sizeof *there));
    say("connect nowhere", connect(client, nowhere, sizeof *there));
    say("connect half there", connect(client, half, sizeof *there));
    there->sin_port = htons(8080);
    say("connect port 8080", connect(client, (struct sockaddr *)there, sizeof *there));
    say("sendmsg nowhere", sendmsg(datagrams, (struct msghdr *)nowhere, 0));
    _exit(0);
}
