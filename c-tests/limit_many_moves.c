// Limit: a run holds some sixteen thousand moved sockets at a time. A move beyond
// that is refused.
//: user root
//: case move
//: rule move bind udp *:auto to loopback:auto
//: stdout the last: ENOBUFS
//: stdout more than 8192: yes
//: stdout more than 16384: no
#include "check.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit files = {20000, 20000};
    int count = 0;

    setrlimit(RLIMIT_NOFILE, &files);
    while (count < 18000 && bind_ip(udp(), "127.0.0.1", 0) == 0)
        count++;
    say("the last", count < 18000 ? -1 : 0);
    printf("more than 8192: %s\n", count > 8192 ? "yes" : "no");
    printf("more than 16384: %s\n", count > 16384 ? "yes" : "no");
}
