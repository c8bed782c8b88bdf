// A socket of the other IP family takes a number where nobody sees it: the
// protocol is the same, and the address says which family is meant.
//: case deny
//: rule deny bind any *:8000-8999
//: stdout behind dup2: EACCES
//: stdout in the parent of a vfork child: EACCES
//: stdout after IPV6_ADDRFORM: EACCES
//: log 3 deny bind
//: case deny tcp
//: rule deny bind tcp *:8000-8999
//: stdout behind dup2: EACCES
//: stdout in the parent of a vfork child: EACCES
//: stdout after IPV6_ADDRFORM: EACCES
//: log 3 deny bind
//: case deny udp
//: rule deny bind udp *:8000-8999
//: same
#include "check.h"

// An IPv6 socket that has become an IPv4 one, without a peer or a port.
static int addrform(void)
{
    int listener = tcp(), fd = must(socket(AF_INET6, SOCK_STREAM, 0));
    must(bind_ip(listener, "127.0.0.1", 0));
    must(listen(listener, 1));
    struct address at = ip("127.0.0.1", 0), mapped = ip("::ffff:127.0.0.1", 0);
    must(getsockname(listener, &at.any, &at.length));
    mapped.in6.sin6_port = at.in.sin_port;
    must(connect(fd, &mapped.any, mapped.length));
    int family = AF_INET;
    must(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &family, sizeof family));
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    must(connect(fd, &nowhere, sizeof nowhere));
    must(close(listener));
    return fd;
}

int main(void)
{
    int four = tcp(), six = must(socket(AF_INET6, SOCK_STREAM, 0));
    must(past_libc(SYS_dup3, six, four, 0));
    say("behind dup2", bind_ip(four, "::1", 8081));
    must(close(six));

    // Its own socket, at a number that its parent has one at, too.
    int of_parent = tcp();
    pid_t child = must(vfork());
    if (child == 0) {
        close(of_parent);
        socket(AF_INET6, SOCK_STREAM, 0);
        _exit(0);
    }
    wait_for(child);
    say("in the parent of a vfork child", bind_ip(of_parent, "127.0.0.1", 8082));

    say("after IPV6_ADDRFORM", bind_ip(addrform(), "127.0.0.1", 8083));
}
