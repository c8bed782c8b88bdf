// The options of a vsock socket that is a Unix socket are those of a vsock
// socket. The first case says what the kernel's own says.
//: ruled a kernel without vsock has none of them
//: case kernel
//: needs vsock
//: rule deny bind vsock *:5000
//: stdout small: EINVAL
//: stdout no memory: EFAULT
//: stdout other level: ENOPROTOOPT
//: stdout no such option: ENOPROTOOPT
//: stdout size: 262144 (8 bytes)
//: stdout min: 128 (8 bytes)
//: stdout max: 262144 (8 bytes)
//: stdout too large: ok
//: stdout size: 262144 (8 bytes)
//: stdout max: ok
//: stdout size: ok
//: stdout size: 1048576 (8 bytes)
//: stdout min: ok
//: stdout size: 2097152 (8 bytes)
//: stdout timeout: 2 s 0 us
//: stdout set timeout: ok
//: stdout timeout: 5 s 500000 us
//: stdout old: 5 s 500000 us
//: stdout zero: ok
//: stdout timeout: 2 s 0 us
//: stdout too many us: ERANGE
//: stdout negative: ERANGE
//: stdout little room: EINVAL
//: stdout get no option: ENOPROTOOPT
//: stdout get another level: ENOPROTOOPT
//: stdout no length: EFAULT
//: stdout receive buffer: 1
//: stdout time-out: 3
//: case carrier
//: rule move bind vsock *:5000 to unix:$DIR/server
//: stdout small: EINVAL
//: stdout no memory: EFAULT
//: stdout other level: ENOPROTOOPT
//: stdout no such option: ENOPROTOOPT
//: stdout size: 262144 (8 bytes)
//: stdout min: 128 (8 bytes)
//: stdout max: 262144 (8 bytes)
//: stdout too large: ok
//: stdout size: 262144 (8 bytes)
//: stdout max: ok
//: stdout size: ok
//: stdout size: 1048576 (8 bytes)
//: stdout min: ok
//: stdout size: 2097152 (8 bytes)
//: stdout timeout: 2 s 0 us
//: stdout set timeout: ok
//: stdout timeout: 5 s 500000 us
//: stdout old: 5 s 500000 us
//: stdout zero: ok
//: stdout timeout: 2 s 0 us
//: stdout too many us: ERANGE
//: stdout negative: ERANGE
//: stdout little room: EINVAL
//: stdout get no option: ENOPROTOOPT
//: stdout get another level: ENOPROTOOPT
//: stdout no length: EFAULT
//: stdout receive buffer: 1
//: stdout time-out: 3
//: case carrier, below docker
//: rule move bind vsock *:5000 to unix:$DIR/server
//: below docker
//: only run
//: stdout small: EINVAL
//: stdout no memory: EFAULT
//: stdout other level: ENOPROTOOPT
//: stdout no such option: ENOPROTOOPT
//: stdout size: 262144 (8 bytes)
//: stdout min: 128 (8 bytes)
//: stdout max: 262144 (8 bytes)
//: stdout too large: ok
//: stdout size: 262144 (8 bytes)
//: stdout max: ok
//: stdout size: ok
//: stdout size: 1048576 (8 bytes)
//: stdout min: ok
//: stdout size: 2097152 (8 bytes)
//: stdout timeout: 2 s 0 us
//: stdout set timeout: ok
//: stdout timeout: 5 s 500000 us
//: stdout old: 5 s 500000 us
//: stdout zero: ok
//: stdout timeout: 2 s 0 us
//: stdout too many us: ERANGE
//: stdout negative: ERANGE
//: stdout little room: EINVAL
//: stdout get no option: ENOPROTOOPT
//: stdout get another level: ENOPROTOOPT
//: stdout no length: EFAULT
//: stdout receive buffer: 1
//: stdout time-out: 3
#include "vsock.h"

#include <sys/time.h>

static int set(int fd, int option, uint64_t value)
{
    return setsockopt(fd, AF_VSOCK, option, &value, sizeof value);
}

static void say_size(const char *what, int fd, int option)
{
    uint64_t value = 0;
    socklen_t length = 16;
    must(getsockopt(fd, AF_VSOCK, option, &value, &length));
    printf("%s: %lu (%u bytes)\n", what, (unsigned long)value, length);
}

static void say_time(const char *what, int fd, int option)
{
    struct timeval time;
    socklen_t length = sizeof time;
    must(getsockopt(fd, AF_VSOCK, option, &time, &length));
    printf("%s: %ld s %ld us\n", what, (long)time.tv_sec, (long)time.tv_usec);
}

static int set_time(int fd, long seconds, long micros)
{
    struct timeval time = {seconds, micros};
    return setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW, &time, sizeof time);
}

int main(void)
{
    int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0));
    uint64_t value = 1;
    say("small", setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &value, 7));
    say("no memory", setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, (void *)8, 8));
    say("other level", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, 8));
    say("no such option", setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_TRUSTED, &value, 8));
    say_size("size", fd, SO_VM_SOCKETS_BUFFER_SIZE);
    say_size("min", fd, SO_VM_SOCKETS_BUFFER_MIN_SIZE);
    say_size("max", fd, SO_VM_SOCKETS_BUFFER_MAX_SIZE);
    say("too large", set(fd, SO_VM_SOCKETS_BUFFER_SIZE, 1 << 30));
    say_size("size", fd, SO_VM_SOCKETS_BUFFER_SIZE);
    say("max", set(fd, SO_VM_SOCKETS_BUFFER_MAX_SIZE, 4 << 20));
    say("size", set(fd, SO_VM_SOCKETS_BUFFER_SIZE, 1 << 20));
    say_size("size", fd, SO_VM_SOCKETS_BUFFER_SIZE);
    say("min", set(fd, SO_VM_SOCKETS_BUFFER_MIN_SIZE, 2 << 20));
    say_size("size", fd, SO_VM_SOCKETS_BUFFER_SIZE);

    say_time("timeout", fd, SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW);
    say("set timeout", set_time(fd, 5, 500000));
    say_time("timeout", fd, SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW);
    say_time("old", fd, SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD);
    say("zero", set_time(fd, 0, 0));
    say_time("timeout", fd, SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW);
    say("too many us", set_time(fd, 0, 1000000));
    say("negative", set_time(fd, -1, 0));

    socklen_t length = 4;
    say("little room", getsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &value, &length));
    length = 8;
    say("get no option", getsockopt(fd, AF_VSOCK, 77, &value, &length));
    say("get another level", getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length));
    say("no length", getsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &value, NULL));

    int size = 8192;
    must(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    say_number("receive buffer", option_of(fd, SO_RCVBUF) == 2 * size);
    struct timeval time = {3, 0};
    must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    length = sizeof time;
    must(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, &length));
    say_number("time-out", time.tv_sec);
    return 0;
}
