// A file that the log of a preload goes to may grow no further (RLIMIT_FSIZE):
// the program gets no SIGXFSZ for a line of bindgate's, and keeps one of its
// own that waits.
//: case logged
//: rule note bind tcp *:*
//: stdout bind: ok
//: stdout bind at the limit: ok
//: stdout waiting at the limit: 0
//: stdout write: EFBIG
//: stdout waiting: 1
//: stdout bind while it waits: ok
//: stdout waiting: 1
//: log some allow bind
#include "check.h"
#include <sys/resource.h>

static void limit(rlim_t soft)
{
    struct rlimit limit;
    must(getrlimit(RLIMIT_FSIZE, &limit));
    limit.rlim_cur = soft == RLIM_INFINITY ? limit.rlim_max : soft;
    must(setrlimit(RLIMIT_FSIZE, &limit));
}

static long waiting(void)
{
    sigset_t set;
    must(sigpending(&set));
    return sigismember(&set, SIGXFSZ);
}

int main(void)
{
    int file = must(open("file", O_WRONLY | O_CREAT, 0600));
    int one = tcp(), two = tcp(), three = tcp();
    say("bind", bind_ip(one, "127.0.0.1", 0));
    limit(0);
    int e = bind_ip(two, "127.0.0.1", 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    must(sigprocmask(SIG_BLOCK, &set, NULL));
    long before = waiting();
    int written = write(file, "x", 1) < 0 ? errno : 0;
    long after = waiting();
    int e3 = bind_ip(three, "127.0.0.1", 0);
    long last = waiting();
    // What is said goes to a file, too.
    limit(RLIM_INFINITY);
    say("bind at the limit", e);
    say_number("waiting at the limit", before);
    errno = written;
    say("write", written ? -1 : 0);
    say_number("waiting", after);
    say("bind while it waits", e3);
    say_number("waiting", last);
}
