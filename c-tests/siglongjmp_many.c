// A signal handler leaves calls by siglongjmp(), wherever they are: before,
// in and behind the kernel. Nothing of it stays: no stack, no mapping, no
// descriptor, and the calls go on working.
//
//     siglongjmp_many [TIMES]     for each of the calls
//: case rules
//: rule deny bind tcp *:9
//: rule move bind tcp *:8080 to loopback:18080
//: rule deny connect udp *:9
//: same
#include "check.h"
#include <dirent.h>
#include <setjmp.h>
#include <sys/time.h>

static sigjmp_buf out;
static int listener, datagram, bare;
static struct address own, nobody;

static void on_alarm(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

static void wait_in_accept(void)
{
    struct address a = {.length = sizeof a.storage};
    accept(listener, &a.any, &a.length);
}

static void wait_in_recvmsg(void)
{
    char byte;
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    recvmsg(datagram, &m, 0);
}

static void connects(void)
{
    for (;;)
        connect(datagram, &nobody.any, nobody.length);
}

static void binds(void)
{
    for (;;)
        bind(bare, &own.any, own.length);
}

// Pages that are mapped. Not mappings: those that adjoin are one. An emulator's
// are its own, too: one page for ten jumps is not what a call leaves behind.
static long mapped(void)
{
    int fd = must(open("/proc/self/statm", O_RDONLY));
    char text[200] = "";
    must(read(fd, text, sizeof text - 1));
    close(fd);
    return atol(text);
}

static int descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    int count = 0;
    must(all ? 0 : -1);
    while (readdir(all))
        count++;
    closedir(all);
    return count;
}

// The address of a variable in a frame of its own.
__attribute__((noinline)) static uintptr_t depth(void)
{
    volatile char here;
    return (uintptr_t)&here;
}

static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {
    {"accept", wait_in_accept},
    {"recvmsg", wait_in_recvmsg},
    {"connect", connects},
    {"bind", binds},
};

int main(int argc, char **argv)
{
    volatile long times = argc > 1 ? atol(argv[1]) : 2000;
    listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 8080));
    must(listen(listener, 1));
    datagram = udp();
    nobody = ip("127.0.0.1", 8082);
    own = ip("127.0.0.1", 8081);
    bare = tcp();
    must(bind(bare, &own.any, own.length));
    signal(SIGALRM, on_alarm);

    volatile long pages = 0;
    volatile int fds = descriptors();
    volatile uintptr_t stack = depth();
    for (volatile unsigned c = 0; c < COUNT(calls); c++) {
        volatile long left = 0;
        while (left < times) {
            if (left == 100)
                pages = mapped();
            if (sigsetjmp(out, 1) == 0) {
                // After 1 to 256 microseconds: before, in and after the call on
                // a slow machine too.
                struct itimerval soon = {{0, 0}, {0, 1 << left % 9}};
                must(setitimer(ITIMER_REAL, &soon, NULL));
                calls[c].call();
            } else {
                left++;
            }
        }
        printf("%s: stack %s, mappings %s, descriptors %s\n", calls[c].name,
               depth() == stack ? "as before" : "grew", mapped() <= pages + times / 10 ? "as before" : "more",
               descriptors() == fds ? "as before" : "more");
    }
    int last = tcp();
    say("bind", bind_ip(last, "127.0.0.1", 8083));
    say_name("name", listener);
}
