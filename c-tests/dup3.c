// dup3() to a number that was never used.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    must(dup3(tcp(), 50, O_CLOEXEC));
    say("bind", bind_ip(50, "127.0.0.1", 8080));
}
