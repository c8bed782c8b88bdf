// More vsock sockets than the run's table has room for, one after the other, and
// one that stays.
//: ruled a kernel without vsock has none
//: case one after the other
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout made: 40000
//: stdout kept: family 40 type 1 protocol 0
//: stdout bind: ok
//: stdout kept: any:5000
//: case below docker
//: below docker
//: only run
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout made: 40000
//: stdout kept: family 40 type 1 protocol 0
//: stdout bind: ok
//: stdout kept: any:5000
#include "vsock.h"

int main(void)
{
    int kept = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    long made = 0;
    for (int i = 0; i < 40000; i++) {
        int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0));
        made += real_family(fd) == AF_UNIX;
        close(fd);
    }
    say_number("made", made);
    say_kind("kept", kept);
    say("bind", bind_vm(kept, VMADDR_CID_ANY, 5000));
    say_vm_name("kept", kept);
    return 0;
}
