// Limit: write() and writev() on an unbound UDP socket bind it, though they then
// fail; no rule is asked. send() does the same, and rules are asked.
//: case deny
//: rule deny bind udp * implicit
//: stdout write: EDESTADDRREQ
//: stdout a port: yes
//: stdout writev: EDESTADDRREQ
//: stdout a port: yes
#include "check.h"
#include <sys/uio.h>

int main(void)
{
    struct iovec byte = {"x", 1};
    int fd = udp();
    say("write", write(fd, "x", 1));
    printf("a port: %s\n", port_of(fd) ? "yes" : "no");
    say("writev", writev(fd = udp(), &byte, 1));
    printf("a port: %s\n", port_of(fd) ? "yes" : "no");
}
