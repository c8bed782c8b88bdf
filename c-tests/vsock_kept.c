// A vsock socket that is a Unix socket is one for whoever holds it: over dup,
// fork, exec and SCM_RIGHTS, before it has a name and after. What comes to its
// number when it is closed is what it is.
//: ruled it shows what a carrier is
//: unfiltered starts a program
//: case kept
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout made: family 40 type 1 protocol 0
//: stdout made: any:auto
//: stdout dup: family 40 type 1 protocol 0
//: stdout fork: family 40 type 1 protocol 0
//: stdout received: family 40 type 1 protocol 0
//: stdout exec, new: family 40 type 1 protocol 0
//: stdout exec, new: any:auto
//: stdout bind: ok
//: stdout exec, bound: family 40 type 1 protocol 0
//: stdout exec, bound: any:5000
//: stdout listen: ok
//: stdout parent: any:5000
//: stdout same number: 1
//: stdout a Unix socket: family 1 type 1 protocol 0
//: stdout a pair: family 1 type 1 protocol 0
//: stdout its name: family 1 (2 bytes)
//: stdout TCP: family 2 type 1 protocol 6
//: case kept, below docker
//: below docker
//: only run
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout made: family 40 type 1 protocol 0
//: stdout made: any:auto
//: stdout dup: family 40 type 1 protocol 0
//: stdout fork: family 40 type 1 protocol 0
//: stdout received: family 40 type 1 protocol 0
//: stdout exec, new: family 40 type 1 protocol 0
//: stdout exec, new: any:auto
//: stdout bind: ok
//: stdout exec, bound: family 40 type 1 protocol 0
//: stdout exec, bound: any:5000
//: stdout listen: ok
//: stdout parent: any:5000
//: stdout same number: 1
//: stdout a Unix socket: family 1 type 1 protocol 0
//: stdout a pair: family 1 type 1 protocol 0
//: stdout its name: family 1 (2 bytes)
//: stdout TCP: family 2 type 1 protocol 6
#include "vsock.h"

static void run_again(char *self, const char *what, int fd)
{
    pid_t child = must(fork());
    if (child == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", fd);
        execl(self, self, what, number, (char *)NULL);
        _exit(1);
    }
    wait_for(child);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        int fd = atoi(argv[2]);
        if (strcmp(argv[1], "new") == 0) {
            say_kind("exec, new", fd);
            say_vm_name("exec, new", fd);
        } else {
            say_kind("exec, bound", fd);
            say_vm_name("exec, bound", fd);
            say("listen", listen(fd, 1));
        }
        return 0;
    }
    int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    say_kind("made", fd);
    say_vm_name("made", fd);
    int copy = must(dup(fd));
    say_kind("dup", copy);
    pid_t child = must(fork());
    if (child == 0) {
        say_kind("fork", fd);
        _exit(0);
    }
    wait_for(child);

    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    send_fd(pair[0], fd);
    int received = receive_fd(pair[1]);
    say_kind("received", received);

    run_again(argv[0], "new", received);
    say("bind", bind_vm(copy, VMADDR_CID_ANY, 5000));
    run_again(argv[0], "bound", received);
    say_vm_name("parent", fd);

    // The number of one that was closed, and the others that are still there.
    int second = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    close(second);
    int other = must(socket(AF_UNIX, SOCK_STREAM, 0));
    say_number("same number", other == second);
    say_kind("a Unix socket", other);
    say_kind("a pair", pair[0]);
    say_vm_name("its name", pair[0]);
    int third = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    past_libc(SYS_close, third, 0, 0);
    int inet = must(socket(AF_INET, SOCK_STREAM, 0));
    must(inet == third ? 0 : -1);
    say_kind("TCP", inet);
    return 0;
}
