// A filter for all threads (`SECCOMP_FILTER_FLAG_TSYNC`) counts for those that
// did not install it too: it would kill for a question. One that fails counts
// for nobody.
//: unemulated QEMU refuses filters
//: unfiltered the calls of one thread are not those of the other
//: case move
//: rule move bind tcp *:8080-8081 to loopback:+10000
//: rule deny bind tcp *:8082
//: stdout no filter: EINVAL
//: stdout bind before: ok
//: stdout filter: ok
//: stdout bind: EACCES
//: stdout denied: EACCES
#include "filter.h"

static pthread_barrier_t barrier;

static void *install(void *unused)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ON(SYS_getsockopt, SECCOMP_RET_KILL_PROCESS),
        ON(SYS_getsockname, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog nothing = {0, filter}, program = {COUNT(filter), filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    long flags = SECCOMP_FILTER_FLAG_TSYNC;
    say("no filter", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &nothing));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    say("filter", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
    return unused;
}

int main(void)
{
    must(-pthread_barrier_init(&barrier, NULL, 2));
    pthread_t thread;
    pthread_create(&thread, NULL, install, NULL);
    pthread_barrier_wait(&barrier);
    say("bind before", bind_ip(tcp(), "127.0.0.1", 8080));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    say("bind", bind_ip(tcp(), "127.0.0.1", 8081));
    say("denied", bind_ip(tcp(), "127.0.0.1", 8082));
}
