// A vfork() child duplicates a bound socket onto a number that is an unbound
// one in its parent: there a send still binds, and is judged.
//: case deny
//: rule deny bind udp * implicit
//: stdout send: EACCES
//: stdout send of a copy: EACCES
//: log 2 deny sendto
#include "check.h"

int main(void)
{
    int bound = tcp(), datagram = udp(), copied = dup(datagram);
    struct address to = ip("127.0.0.1", 8082);
    must(bind_ip(bound, "127.0.0.1", 8080));
    pid_t child = must(vfork());
    if (child == 0) {
        dup2(bound, datagram);
        dup3(bound, copied, O_CLOEXEC);
        _exit(0);
    }
    wait_for(child);
    say("send", sendto(datagram, "x", 1, 0, &to.any, to.length));
    say("send of a copy", sendto(copied, "x", 1, 0, &to.any, to.length));
}
