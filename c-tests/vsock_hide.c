// A hidden vsock socket, and one that goes to another vsock address in a policy
// that moves others to Unix sockets.
//: ruled a kernel without vsock has none
//: case hide
//: rule hide bind vsock *:5000
//: stdout bind: ok
//: stdout really: 1
//: stdout name: 2:5000
//: stdout listen: ok
//: case hide, below docker
//: below docker
//: only run
//: rule hide bind vsock *:5000
//: stdout bind: ok
//: stdout really: 1
//: stdout name: 2:5000
//: stdout listen: ok
//: record {"call":"bind","verdict":"hide","asked":"vsock:2:5000"}
//: case another address
//: needs vsock
//: rule move bind vsock *:5001 to unix:$DIR/server
//: rule move bind vsock host:5000 to vsock:cid-any:auto
//: stdout bind: ok
//: stdout really: 40
//: stdout name: 2:5000
//: stdout listen: ok
//: case another address, below docker
//: below docker
//: only run
//: rule move bind vsock *:5001 to unix:$DIR/server
//: rule move bind vsock host:5000 to vsock:cid-any:auto
//: stdout bind: EPERM
//: stdout really: 1
//: stdout name: any:auto
//: stdout listen: EINVAL
//: record {"call":"bind","verdict":"move","asked":"vsock:2:5000","errno":"EPERM","check":"__sock_create"}
#include "vsock.h"

int main(void)
{
    int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    say("bind", bind_vm(fd, VMADDR_CID_HOST, 5000));
    say_number("really", real_family(fd));
    say_vm_name("name", fd);
    say("listen", listen(fd, 1));
    return 0;
}
