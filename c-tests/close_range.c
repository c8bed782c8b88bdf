// close_range() closes many at once; their numbers are used anew.
//: case deny
//: rule deny bind udp *:8080
//: stdout close_range: ok
//: stdout bind of a closed one: EBADF
//: stdout the same number: yes
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int first = tcp();
    must(dup2(tcp(), 30));
    say("close_range", close_range(3, ~0U, 0));
    say("bind of a closed one", bind_ip(first, "127.0.0.1", 8080));
    int second = udp();
    printf("the same number: %s\n", first == second ? "yes" : "no");
    say("bind", bind_ip(second, "127.0.0.1", 8080));
}
