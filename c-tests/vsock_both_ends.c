// A vsock server and its client in one program, both on Unix sockets: wherever
// the family may be made, may not be made, or is unknown. Nothing is asked of
// the machine's own vsock.
//: ruled it would call the machine's own host
//: case stream
//: rule move bind vsock *:5000-5001 to unix:$DIR/%p.sock
//: rule move connect vsock *:5000-5002 to unix:$DIR/%p.sock
//: args stream
//: stdout socket: ok
//: stdout new: family 40 type 1 protocol 0
//: stdout new: any:auto
//: stdout new: ENOTCONN
//: stdout close-on-exec: 1
//: stdout listen unbound: EINVAL
//: stdout bind: ok
//: stdout bind again: EINVAL
//: stdout bound: family 40 type 1 protocol 0
//: stdout bound: 2:5000
//: stdout duplicate: 2:5000
//: stdout listen: ok
//: stdout connect: ok
//: stdout client: family 40 type 1 protocol 0
//: stdout client: 1:some
//: stdout client: 2:5000
//: stdout waits: 1
//: stdout events: 1
//: stdout data: 7
//: stdout accepted: 1:some
//: stdout server: family 40 type 1 protocol 0
//: stdout server: 2:5000
//: stdout server: 1:some
//: stdout received: 5
//: stdout received: 5
//: stdout end: 0
//: stdout nobody there: ECONNRESET
//: stdout and again: ok
//: stdout bind: ok
//: stdout nobody there: ECONNRESET
//: stdout named: any:5001
//: stdout connect: ok
//: stdout named: 1:5001
//: stdout named: 2:5000
//: record {"call":"bind","asked":"vsock:2:5000","used":"unix:$DIR/5000.sock","verdict":"move"}
//: record {"call":"socket","family":"vsock","used":"unix:auto","identity":"cookie"}
//: case seqpacket
//: rule move bind vsock *:5000-5001 to unix:$DIR/%p.sock
//: rule move connect vsock *:5000-5002 to unix:$DIR/%p.sock
//: args seqpacket
//: stdout socket: ok
//: stdout new: family 40 type 5 protocol 0
//: stdout new: any:auto
//: stdout new: ENOTCONN
//: stdout close-on-exec: 1
//: stdout listen unbound: EINVAL
//: stdout bind: ok
//: stdout bind again: EINVAL
//: stdout bound: family 40 type 5 protocol 0
//: stdout bound: 2:5000
//: stdout duplicate: 2:5000
//: stdout listen: ok
//: stdout connect: ok
//: stdout client: family 40 type 5 protocol 0
//: stdout client: 1:some
//: stdout client: 2:5000
//: stdout waits: 1
//: stdout events: 1
//: stdout data: 7
//: stdout accepted: 1:some
//: stdout server: family 40 type 5 protocol 0
//: stdout server: 2:5000
//: stdout server: 1:some
//: stdout received: 5
//: stdout received: 5
//: stdout end: 0
//: stdout nobody there: ECONNRESET
//: stdout and again: ok
//: stdout bind: ok
//: stdout nobody there: ECONNRESET
//: stdout named: any:5001
//: stdout connect: ok
//: stdout named: 1:5001
//: stdout named: 2:5000
//: record {"call":"bind","asked":"vsock:2:5000","used":"unix:$DIR/5000.sock","verdict":"move"}
//: record {"call":"socket","family":"vsock","used":"unix:auto","identity":"cookie"}
//: case stream, below docker
//: rule move bind vsock *:5000-5001 to unix:$DIR/%p.sock
//: rule move connect vsock *:5000-5002 to unix:$DIR/%p.sock
//: args stream
//: below docker
//: only run
//: stdout socket: ok
//: stdout new: family 40 type 1 protocol 0
//: stdout new: any:auto
//: stdout new: ENOTCONN
//: stdout close-on-exec: 1
//: stdout listen unbound: EINVAL
//: stdout bind: ok
//: stdout bind again: EINVAL
//: stdout bound: family 40 type 1 protocol 0
//: stdout bound: 2:5000
//: stdout duplicate: 2:5000
//: stdout listen: ok
//: stdout connect: ok
//: stdout client: family 40 type 1 protocol 0
//: stdout client: 1:some
//: stdout client: 2:5000
//: stdout waits: 1
//: stdout events: 1
//: stdout data: 7
//: stdout accepted: 1:some
//: stdout server: family 40 type 1 protocol 0
//: stdout server: 2:5000
//: stdout server: 1:some
//: stdout received: 5
//: stdout received: 5
//: stdout end: 0
//: stdout nobody there: ECONNRESET
//: stdout and again: ok
//: stdout bind: ok
//: stdout nobody there: ECONNRESET
//: stdout named: any:5001
//: stdout connect: ok
//: stdout named: 1:5001
//: stdout named: 2:5000
//: record {"call":"bind","asked":"vsock:2:5000","used":"unix:$DIR/5000.sock","verdict":"move"}
//: record {"call":"socket","family":"vsock","used":"unix:auto","identity":"cookie"}
//: case seqpacket, below docker
//: rule move bind vsock *:5000-5001 to unix:$DIR/%p.sock
//: rule move connect vsock *:5000-5002 to unix:$DIR/%p.sock
//: args seqpacket
//: below docker
//: only run
//: stdout socket: ok
//: stdout new: family 40 type 5 protocol 0
//: stdout new: any:auto
//: stdout new: ENOTCONN
//: stdout close-on-exec: 1
//: stdout listen unbound: EINVAL
//: stdout bind: ok
//: stdout bind again: EINVAL
//: stdout bound: family 40 type 5 protocol 0
//: stdout bound: 2:5000
//: stdout duplicate: 2:5000
//: stdout listen: ok
//: stdout connect: ok
//: stdout client: family 40 type 5 protocol 0
//: stdout client: 1:some
//: stdout client: 2:5000
//: stdout waits: 1
//: stdout events: 1
//: stdout data: 7
//: stdout accepted: 1:some
//: stdout server: family 40 type 5 protocol 0
//: stdout server: 2:5000
//: stdout server: 1:some
//: stdout received: 5
//: stdout received: 5
//: stdout end: 0
//: stdout nobody there: ECONNRESET
//: stdout and again: ok
//: stdout bind: ok
//: stdout nobody there: ECONNRESET
//: stdout named: any:5001
//: stdout connect: ok
//: stdout named: 1:5001
//: stdout named: 2:5000
//: record {"call":"bind","asked":"vsock:2:5000","used":"unix:$DIR/5000.sock","verdict":"move"}
//: record {"call":"socket","family":"vsock","used":"unix:auto","identity":"cookie"}
//: case stream, below novsock
//: rule move bind vsock *:5000-5001 to unix:$DIR/%p.sock
//: rule move connect vsock *:5000-5002 to unix:$DIR/%p.sock
//: args stream
//: below novsock
//: only run
//: stdout socket: ok
//: stdout new: family 40 type 1 protocol 0
//: stdout new: any:auto
//: stdout new: ENOTCONN
//: stdout close-on-exec: 1
//: stdout listen unbound: EINVAL
//: stdout bind: ok
//: stdout bind again: EINVAL
//: stdout bound: family 40 type 1 protocol 0
//: stdout bound: 2:5000
//: stdout duplicate: 2:5000
//: stdout listen: ok
//: stdout connect: ok
//: stdout client: family 40 type 1 protocol 0
//: stdout client: 1:some
//: stdout client: 2:5000
//: stdout waits: 1
//: stdout events: 1
//: stdout data: 7
//: stdout accepted: 1:some
//: stdout server: family 40 type 1 protocol 0
//: stdout server: 2:5000
//: stdout server: 1:some
//: stdout received: 5
//: stdout received: 5
//: stdout end: 0
//: stdout nobody there: ECONNRESET
//: stdout and again: ok
//: stdout bind: ok
//: stdout nobody there: ECONNRESET
//: stdout named: any:5001
//: stdout connect: ok
//: stdout named: 1:5001
//: stdout named: 2:5000
//: record {"call":"bind","asked":"vsock:2:5000","used":"unix:$DIR/5000.sock","verdict":"move"}
//: record {"call":"socket","family":"vsock","used":"unix:auto","identity":"cookie"}
//: case seqpacket, below novsock
//: rule move bind vsock *:5000-5001 to unix:$DIR/%p.sock
//: rule move connect vsock *:5000-5002 to unix:$DIR/%p.sock
//: args seqpacket
//: below novsock
//: only run
//: stdout socket: ok
//: stdout new: family 40 type 5 protocol 0
//: stdout new: any:auto
//: stdout new: ENOTCONN
//: stdout close-on-exec: 1
//: stdout listen unbound: EINVAL
//: stdout bind: ok
//: stdout bind again: EINVAL
//: stdout bound: family 40 type 5 protocol 0
//: stdout bound: 2:5000
//: stdout duplicate: 2:5000
//: stdout listen: ok
//: stdout connect: ok
//: stdout client: family 40 type 5 protocol 0
//: stdout client: 1:some
//: stdout client: 2:5000
//: stdout waits: 1
//: stdout events: 1
//: stdout data: 7
//: stdout accepted: 1:some
//: stdout server: family 40 type 5 protocol 0
//: stdout server: 2:5000
//: stdout server: 1:some
//: stdout received: 5
//: stdout received: 5
//: stdout end: 0
//: stdout nobody there: ECONNRESET
//: stdout and again: ok
//: stdout bind: ok
//: stdout nobody there: ECONNRESET
//: stdout named: any:5001
//: stdout connect: ok
//: stdout named: 1:5001
//: stdout named: 2:5000
//: record {"call":"bind","asked":"vsock:2:5000","used":"unix:$DIR/5000.sock","verdict":"move"}
//: record {"call":"socket","family":"vsock","used":"unix:auto","identity":"cookie"}
//: case stream, below open
//: rule move bind vsock *:5000-5001 to unix:$DIR/%p.sock
//: rule move connect vsock *:5000-5002 to unix:$DIR/%p.sock
//: args stream
//: below open
//: only run
//: stdout socket: ok
//: stdout new: family 40 type 1 protocol 0
//: stdout new: any:auto
//: stdout new: ENOTCONN
//: stdout close-on-exec: 1
//: stdout listen unbound: EINVAL
//: stdout bind: ok
//: stdout bind again: EINVAL
//: stdout bound: family 40 type 1 protocol 0
//: stdout bound: 2:5000
//: stdout duplicate: 2:5000
//: stdout listen: ok
//: stdout connect: ok
//: stdout client: family 40 type 1 protocol 0
//: stdout client: 1:some
//: stdout client: 2:5000
//: stdout waits: 1
//: stdout events: 1
//: stdout data: 7
//: stdout accepted: 1:some
//: stdout server: family 40 type 1 protocol 0
//: stdout server: 2:5000
//: stdout server: 1:some
//: stdout received: 5
//: stdout received: 5
//: stdout end: 0
//: stdout nobody there: ECONNRESET
//: stdout and again: ok
//: stdout bind: ok
//: stdout nobody there: ECONNRESET
//: stdout named: any:5001
//: stdout connect: ok
//: stdout named: 1:5001
//: stdout named: 2:5000
//: record {"call":"bind","asked":"vsock:2:5000","used":"unix:$DIR/5000.sock","verdict":"move"}
//: record {"call":"socket","family":"vsock","used":"unix:auto","identity":"cookie"}
#include "vsock.h"

#include <sys/epoll.h>

int main(int argc, char **argv)
{
    int type = argc > 1 && strcmp(argv[1], "seqpacket") == 0 ? SOCK_SEQPACKET : SOCK_STREAM;
    int listener = say("socket", socket(AF_VSOCK, type | SOCK_CLOEXEC, 0));
    if (listener < 0)
        return 0;
    say_kind("new", listener);
    say_vm_name("new", listener);
    say_vm_peer("new", listener);
    say_number("close-on-exec", fcntl(listener, F_GETFD));

    // Watched and duplicated before it has a name: there is no other socket
    // that these would be lost to.
    int duplicate = must(dup(listener));
    int ep = must(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 7};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event));
    pid_t child = must(fork());
    if (child == 0) {
        // The child holds one as well, and lives until its parent is done.
        pause();
        _exit(0);
    }

    say("listen unbound", listen(listener, 8));
    say("bind", bind_vm(listener, VMADDR_CID_HOST, 5000));
    say("bind again", bind_vm(listener, VMADDR_CID_HOST, 5001));
    say_kind("bound", listener);
    say_vm_name("bound", listener);
    say_vm_name("duplicate", duplicate);
    say("listen", listen(duplicate, 8));

    int client = must(socket(AF_VSOCK, type, PF_VSOCK));
    say("connect", connect_vm(client, VMADDR_CID_HOST, 5000));
    say_kind("client", client);
    say_vm_name("client", client);
    say_vm_peer("client", client);
    say_number("waits", !(fcntl(client, F_GETFL) & O_NONBLOCK));

    struct epoll_event got;
    say_number("events", epoll_wait(ep, &got, 1, 10000));
    say_number("data", (long)got.data.u64);
    struct sockaddr_vm peer;
    socklen_t length = sizeof peer;
    int server = must(accept(listener, (struct sockaddr *)&peer, &length));
    printf("accepted: %s\n", vm_text(&peer, length));
    say_kind("server", server);
    say_vm_name("server", server);
    say_vm_peer("server", server);

    char buffer[16] = "";
    must(write(client, "hello", 5));
    say_number("received", read(server, buffer, sizeof buffer));
    must(write(server, "world", 5));
    say_number("received", read(client, buffer, sizeof buffer));
    close(client);
    say_number("end", read(server, buffer, sizeof buffer));

    int late = must(socket(AF_VSOCK, type, 0));
    say("nobody there", connect_vm(late, VMADDR_CID_HOST, 5002));
    say("and again", connect_vm(late, VMADDR_CID_HOST, 5000));

    // A client that has a port of its own.
    int named = must(socket(AF_VSOCK, type, 0));
    say("bind", bind_vm(named, VMADDR_CID_ANY, 5001));
    say("nobody there", connect_vm(named, VMADDR_CID_HOST, 5002));
    say_vm_name("named", named);
    say("connect", connect_vm(named, VMADDR_CID_HOST, 5000));
    say_vm_name("named", named);
    say_vm_peer("named", named);
    must(kill(child, SIGTERM));
    waitpid(child, NULL, 0);
    return 0;
}
