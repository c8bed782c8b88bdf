// listen() on an unbound socket binds it to every address: a bind like any other.
//: case deny
//: rule deny bind tcp *
//: stdout listen: EACCES
//: stdout has a port: no
//: log 1 deny listen
//: case deny automatic ports
//: rule deny bind tcp *:auto
//: stdout listen: EACCES
//: stdout has a port: no
//: case deny listen
//: rule deny listen tcp *
//: stdout listen: EACCES
//: stdout has a port: no
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("listen", listen(fd, 1));
    printf("has a port: %s\n", port_of(fd) ? "yes" : "no");
}
