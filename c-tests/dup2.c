// dup2() puts a socket in the place of another: the number now means that one.
//: case deny
//: rule deny bind udp *:8080
//: stdout bind of the TCP socket: ok
//: stdout bind under its old number: EACCES
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int stream = tcp();
    int datagram = udp();
    say("bind of the TCP socket", bind_ip(stream, "127.0.0.1", 8080));
    must(dup2(datagram, stream));
    say("bind under its old number", bind_ip(stream, "127.0.0.1", 8080));
}
