// A thread installs a seccomp filter for itself alone, by the number of the
// call: a redirect is refused in it, and done in the thread that was there
// before. What is asked of seccomp(2) is no filter.
//: unemulated QEMU refuses filters
//: unfiltered the calls of one thread are not those of the other
//: case move
//: rule move bind tcp *:8080-8082 to loopback:+10000
//: stdout asked: ok
//: stdout bind before: ok
//: stdout name: 0.0.0.0:8080 (16 bytes)
//: stdout bind in the filtered thread: EACCES
//: stdout bind of its own thread: EACCES
//: stdout bind after: ok
//: stdout name: 0.0.0.0:8082 (16 bytes)
//: case move, counted
//: only run
//: rule move bind tcp *:8080-8082 to loopback:+10000
//: stdout asked: ok
//: stdout bind before: ok
//: stdout name: 0.0.0.0:8080 (16 bytes)
//: stdout bind in the filtered thread: EACCES
//: stdout bind of its own thread: EACCES
//: stdout bind after: ok
//: stdout name: 0.0.0.0:8082 (16 bytes)
//: log 4 move bind
#include "filter.h"

static void *child_of_filtered(void *unused)
{
    int fd = tcp();
    say("bind of its own thread", bind_ip(fd, "0.0.0.0", 8081));
    return unused;
}

static void *filtered(void *unused)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ON(SYS_getsockopt, SECCOMP_RET_KILL_PROCESS),
        ON(SYS_getsockname, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    int fd = tcp();
    say("bind in the filtered thread", bind_ip(fd, "0.0.0.0", 8081));
    pthread_t own;
    pthread_create(&own, NULL, child_of_filtered, NULL);
    pthread_join(own, NULL);
    return unused;
}

int main(void)
{
    unsigned action = SECCOMP_RET_ERRNO;
    say("asked", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
    int fd = tcp();
    say("bind before", bind_ip(fd, "0.0.0.0", 8080));
    say_name("name", fd);
    pthread_t thread;
    pthread_create(&thread, NULL, filtered, NULL);
    pthread_join(thread, NULL);
    fd = tcp();
    say("bind after", bind_ip(fd, "0.0.0.0", 8082));
    say_name("name", fd);
}
