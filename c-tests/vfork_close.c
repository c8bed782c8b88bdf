// A vfork() child shares its parent's memory but not its descriptors: what it
// closes and duplicates is its own affair.
//: case deny
//: rule deny bind udp *:8080
//: stdout bind in the parent: EACCES
//: stdout bind of the other: ok
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int datagram = udp();
    int stream = tcp();
    pid_t child = must(vfork());
    if (child == 0) {
        dup2(stream, datagram);
        close(stream);
        _exit(0);
    }
    wait_for(child);
    say("bind in the parent", bind_ip(datagram, "127.0.0.1", 8080));
    say("bind of the other", bind_ip(stream, "127.0.0.1", 8080));
}
