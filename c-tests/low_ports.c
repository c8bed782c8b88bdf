// `unprivileged` moves who may not have the port, after rules that come first.
//: user nobody
//: case moved
//: rule move bind {tcp,udp} *:reserved to *:+10000 unprivileged followed
//: stdout bind: ok
//: stdout really: 0.0.0.0:10080
//: log 1 move bind
//: case first
//: rule deny bind tcp *:80 with EPERM
//: rule move bind {tcp,udp} *:reserved to *:+10000 unprivileged followed
//: stdout bind: EPERM
//: stdout really: 0.0.0.0:0
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "0.0.0.0", 80));
    say_real_name("really", fd);
}
