// Limit: libc's own inner calls are not seen; bindresvport() binds inside.
//: user root
//: case deny
//: rule deny bind tcp *:reserved
//: stdout bindresvport: ok
//: stdout bind: EACCES
//: log 1 deny bind
#include "check.h"
#include <netinet/in.h>

int main(void)
{
    say("bindresvport", bindresvport(tcp(), NULL));
    say("bind", bind_ip(tcp(), "127.0.0.1", 80));
}
