// A connect that no rule moves is for the kernel's own vsock socket, and fails as
// its socket(2) would have where there is none. A library answers in the place of
// the kernel, so that nobody is called.
//: ruled a kernel without vsock has none
//: library answers_vsock_connect linked
//: case by a bind rule
//: needs vsock
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout asked of family 40
//: stdout connect: ENETUNREACH
//: stdout really: 40
//: stdout kind: family 40 type 1 protocol 0
//: stdout a Unix address: EINVAL
//: stdout short: EINVAL
//: case by a connect rule
//: needs vsock
//: rule move connect vsock *:5000 to unix:$DIR/server
//: stdout asked of family 40
//: stdout connect: ENETUNREACH
//: stdout really: 40
//: stdout kind: family 40 type 1 protocol 0
//: stdout a Unix address: EINVAL
//: stdout short: EINVAL
//: case below docker
//: below docker
//: only run
//: rule move connect vsock *:5000 to unix:$DIR/server
//: stdout connect: EPERM
//: stdout really: 1
//: stdout kind: family 40 type 1 protocol 0
//: stdout a Unix address: EINVAL
//: stdout short: EINVAL
//: case denied
//: rule move bind vsock *:5000 to unix:$DIR/server
//: rule deny connect vsock *:5001 with EHOSTUNREACH
//: stdout connect: EHOSTUNREACH
//: stdout really: 1
//: stdout kind: family 40 type 1 protocol 0
//: stdout a Unix address: EINVAL
//: stdout short: EINVAL
//: log 1 deny connect
#include "vsock.h"

int main(void)
{
    int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    say("connect", connect_vm(fd, VMADDR_CID_HOST, 5001));
    say_number("really", real_family(fd));
    say_kind("kind", fd);
    fd = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    struct address path = {.length = sizeof path.un};
    path.un = (struct sockaddr_un){AF_UNIX, "never"};
    say("a Unix address", connect(fd, &path.any, path.length));
    struct sockaddr_vm port = vm(VMADDR_CID_HOST, 5001);
    say("short", connect(fd, (struct sockaddr *)&port, 12));
    return 0;
}
