// Limit: a function that is looked up in libc itself, as Python's ctypes does
// with CDLL("libc.so.6"), is libc's; one that is looked up in the program's own
// order is ours.
//: case deny
//: rule deny bind tcp *:8080
//: stdout default: EACCES
//: stdout libc: ok
//: log 1 deny bind
#include "check.h"
#include <dlfcn.h>

int main(void)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    must(libc ? 0 : -1);
    void *places[] = {RTLD_DEFAULT, libc};
    const char *names[] = {"default", "libc"};
    for (size_t i = 0; i < COUNT(places); i++) {
        int (*next)(int, const struct sockaddr *, socklen_t) =
            (int (*)(int, const struct sockaddr *, socklen_t))dlsym(places[i], "bind");
        int fd = tcp();
        struct address a = ip("127.0.0.1", 8080);
        say(names[i], next(fd, &a.any, a.length));
        close(fd);
    }
}
