// Rules on a vsock host: what they redirect stays on the host, and the program is
// told of no Unix socket.
//: ruled a plain run asks the machine's own vsock
//: case elsewhere
//: rule host cid 3
//: rule move bind vsock *:5000 to vsock:3:5500
//: only run
//: args 3 5500
//: log 1 move bind
//: record {"call":"bind","verdict":"move","asked":"vsock:any:5000","used":"vsock:3:5500"}
//: stdout bind: ok
//: stdout kind: family 40 type 1 protocol 0
//: stdout name: any:5000
//: stdout as asked: ECONNRESET
//: stdout where it is: ok
//: stdout peer: 3:5500
//: stdout child: 1:5000
//: stdout its peer: 1:some
//: case connect
//: rule host cid 3
//: rule move connect vsock host:* to vsock:3:5000
//: only run
//: args 2 5000
//: log 1 move connect
//: stdout bind: ok
//: stdout kind: family 40 type 1 protocol 0
//: stdout name: any:5000
//: stdout as asked: ok
//: stdout where it is: ok
//: stdout peer: 2:5000
//: stdout child: 3:5000
//: stdout its peer: 1:some
//: case hide
//: rule host cid 3
//: rule hide bind vsock *:5000
//: only run
//: args 3 5000
//: log 1 hide bind
//: stdout bind: ok
//: stdout kind: family 40 type 1 protocol 0
//: stdout name: any:5000
//: stdout as asked: ECONNRESET
//: stdout where it is: ECONNRESET
//: case unix
//: rule host cid 3
//: rule move bind vsock *:5000 to unix:$DIR/server
//: rule move connect vsock 9:* to unix:$DIR/server
//: only run
//: args 9 77
//: log 1 move bind
//: stdout bind: ok
//: stdout kind: family 40 type 1 protocol 0
//: stdout name: any:5000
//: stdout as asked: ECONNRESET
//: stdout where it is: ok
//: stdout peer: 9:77
//: stdout child: 1:5000
//: stdout its peer: 1:some
#include "vsock.h"

int main(int count, char **args)
{
    if (count < 3)
        return 2;
    int listener = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    say("bind", bind_vm(listener, VMADDR_CID_ANY, 5000));
    say_kind("kind", listener);
    say_vm_name("name", listener);
    must(listen(listener, 4));
    int client = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    if (say("as asked", connect_vm(client, 3, 5000)) == 0)
        close(must(accept(listener, NULL, NULL)));
    close(client);
    client = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    unsigned cid = (unsigned)atoi(args[1]), port = (unsigned)atoi(args[2]);
    if (say("where it is", connect_vm(client, cid, port)) != 0)
        return 0;
    say_vm_peer("peer", client);
    int child = must(accept(listener, NULL, NULL));
    say_vm_name("child", child);
    say_vm_peer("its peer", child);
    return 0;
}
