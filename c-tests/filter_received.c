// A filter that the program has installed by prctl(2), by syscall(2), or past
// libc, as its argument says. After it the rules hold for a socket that was
// received, for duplicates, and for a listen that binds.
//: unemulated QEMU refuses filters
//: case deny
//: rule deny bind any *:*
//: args prctl
//: stdout received: EACCES
//: stdout duplicate: EACCES
//: stdout duplicate by fcntl: EACCES
//: stdout listen: EACCES
//: case deny, counted
//: only run
//: rule deny bind any *:*
//: args prctl
//: stdout received: EACCES
//: stdout duplicate: EACCES
//: stdout duplicate by fcntl: EACCES
//: stdout listen: EACCES
//: log 3 deny bind
//: log 1 deny listen
//: case deny, by syscall
//: rule deny bind any *:*
//: args syscall
//: stdout received: EACCES
//: stdout duplicate: EACCES
//: stdout duplicate by fcntl: EACCES
//: stdout listen: EACCES
//: case deny, unseen
//: rule deny bind any *:*
//: args unseen
//: stdout received: EACCES
//: stdout duplicate: EACCES
//: stdout duplicate by fcntl: EACCES
//: stdout listen: EACCES
#include "filter.h"

static void install(const char *how)
{
    static struct sock_filter filter[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {COUNT(filter), filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (strcmp(how, "syscall") == 0)
        must(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    else if (strcmp(how, "unseen") == 0)
        must(past_libc(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program));
    else
        must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

int main(int argc, char **argv)
{
    int pair[2], sent = tcp(), first = tcp(), second = tcp();
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    install(argc > 1 ? argv[1] : "prctl");
    send_fd(pair[0], sent);
    say("received", bind_ip(receive_fd(pair[1]), "127.0.0.1", 8080));
    say("duplicate", bind_ip(must(dup(first)), "127.0.0.1", 8081));
    say("duplicate by fcntl", bind_ip(must(fcntl(second, F_DUPFD, 200)), "127.0.0.1", 8082));
    say("listen", listen(tcp(), 1));
}
