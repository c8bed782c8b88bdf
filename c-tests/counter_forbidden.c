// A program that forbids itself the processor's counter (PR_SET_TSC): whoever
// reads it then, by the vDSO's clock too, gets SIGSEGV. It binds none the less.
//: case rules
//: rule deny bind tcp *:9
//: log 2 allow bind
//: same
//: case move
//: rule move bind tcp *:4711-4712 to *:+10000
//: log 2 move bind
//: same
#include "check.h"
#include <sys/prctl.h>

int main(void)
{
    say("bind", bind_ip(tcp(), "127.0.0.1", 4711));
#ifdef __x86_64__
    must(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0));
#endif
    say("bind without a counter", bind_ip(tcp(), "127.0.0.1", 4712));
    return 0;
}
