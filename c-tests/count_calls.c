// A library that stands behind bindgate and counts the calls that reach it, in
// forked children too. Its functions pass on six registers, whatever they hold.
//: driven
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static atomic_long *count;

__attribute__((constructor)) static void start(void)
{
    count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

// Calls since the last question.
long counted(void);
long counted(void)
{
    return atomic_exchange(count, 0);
}

typedef long any(long, long, long, long, long, long);

static any *next(const char *name)
{
    return (any *)dlsym(RTLD_NEXT, name);
}

#define FORWARD(name)                                         \
    any name;                                                 \
    long name(long a, long b, long c, long d, long e, long f) \
    {                                                         \
        if (count)                                            \
            atomic_fetch_add(count, 1);                       \
        return next(#name)(a, b, c, d, e, f);                 \
    }

FORWARD(socket)
FORWARD(socketpair)
FORWARD(bind)
FORWARD(listen)
FORWARD(connect)
FORWARD(accept)
FORWARD(accept4)
FORWARD(getsockname)
FORWARD(getpeername)
FORWARD(getsockopt)
FORWARD(setsockopt)
FORWARD(close)
FORWARD(close_range)
FORWARD(closefrom)
FORWARD(dup)
FORWARD(dup2)
FORWARD(dup3)
FORWARD(fcntl)
FORWARD(fcntl64)
FORWARD(recvmsg)
FORWARD(recvmmsg)
FORWARD(sendto)
FORWARD(sendmsg)
FORWARD(sendmmsg)
FORWARD(epoll_ctl)
FORWARD(prctl)
FORWARD(execve)
FORWARD(execv)
FORWARD(execvp)
FORWARD(execvpe)
FORWARD(execl)
FORWARD(execlp)
FORWARD(execle)
FORWARD(fexecve)
FORWARD(execveat)
FORWARD(posix_spawn)
FORWARD(posix_spawnp)

// Forwarded with all seven registers.
long syscall(long n, long a, long b, long c, long d, long e, long f);
long syscall(long n, long a, long b, long c, long d, long e, long f)
{
    static long (*real)(long, long, long, long, long, long, long);
    if (!real)
        real = (long (*)(long, long, long, long, long, long, long))dlsym(RTLD_NEXT, "syscall");
    if (count)
        atomic_fetch_add(count, 1);
    return real(n, a, b, c, d, e, f);
}
