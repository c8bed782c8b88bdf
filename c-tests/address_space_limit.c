// RLIMIT_AS tight, as some supervisors set it.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
#include "check.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
    if (argc == 1) {
        must(setrlimit(RLIMIT_AS, &(struct rlimit){64 << 20, 64 << 20}));
        execl("/proc/self/exe", argv[0], "again", NULL);
        must(-1);
    }
    say("bind", bind_ip(tcp(), "127.0.0.1", 8080));
}
