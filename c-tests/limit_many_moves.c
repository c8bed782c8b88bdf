// Limit: a run holds some four thousand moved sockets at a time. A move beyond
// that is refused.
//: user root
//: case move
//: rule move bind udp *:auto to loopback:auto
//: stdout the last: ENOBUFS
//: stdout more than 2000: yes
//: stdout more than 4096: no
#include "check.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit files = {6000, 6000};
    int count = 0;

    setrlimit(RLIMIT_NOFILE, &files);
    while (count < 5000 && bind_ip(udp(), "127.0.0.1", 0) == 0)
        count++;
    say("the last", count < 5000 ? -1 : 0);
    printf("more than 2000: %s\n", count > 2000 ? "yes" : "no");
    printf("more than 4096: %s\n", count > 4096 ? "yes" : "no");
}
