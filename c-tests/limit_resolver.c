// Limit: libc's own resolver asks its name servers past every rule, since libc
// does not call its public connect(2) for that.
//: link -lresolv
//: case deny
//: rule deny connect udp *:5053
//: stdout the program's own: EACCES
//: stdout the resolver's question arrives: ok
#include <arpa/nameser.h>
#include <resolv.h>

#include "check.h"

int main(void)
{
    int server = udp();
    must(bind_ip(server, "127.0.0.1", 5053));
    say("the program's own", connect_ip(udp(), "127.0.0.1", 5053));
    pid_t child = must(fork());
    if (child == 0) {
        unsigned char answer[512];
        must(res_init());
        _res.nscount = 1;
        _res.nsaddr_list[0] = ip("127.0.0.1", 5053).in;
        _exit(res_query("x.example", ns_c_in, ns_t_a, answer, sizeof answer) >= 0);
    }
    unsigned char question[512];
    struct address client = {.length = sizeof client.storage};
    long n = recvfrom(server, question, sizeof question, 0, &client.any, &client.length);
    say("the resolver's question arrives", n);
    // "No such name", so that the child ends.
    question[2] |= 0x80;
    question[3] = 3;
    must(sendto(server, question, (size_t)n, 0, &client.any, client.length));
    wait_for(child);
}
