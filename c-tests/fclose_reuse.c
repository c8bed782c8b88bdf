// fclose() closes a socket inside libc; its number soon means something else.
//: case deny
//: rule deny bind udp *:8080
//: stdout the same number: yes
//: stdout bind of the new socket: EACCES
//: stdout bind of a TCP socket with that number: ok
//: log 1 deny bind
#include "check.h"

int main(void)
{
    int first = tcp();
    FILE *stream = fdopen(first, "r+");
    fclose(stream);
    int second = udp();
    printf("the same number: %s\n", first == second ? "yes" : "no");
    say("bind of the new socket", bind_ip(second, "127.0.0.1", 8080));
    fclose(fdopen(second, "r+"));
    say("bind of a TCP socket with that number", bind_ip(tcp(), "127.0.0.1", 8080));
}
