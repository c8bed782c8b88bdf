// Limit: a library in a linker namespace of its own has a libc of its own, and
// no preloaded library in front of it. What it binds is not seen; a socket
// that it leaves behind is.
//: library host_library
//: case deny
//: rule deny bind tcp *:8080
//: stdout library, loaded: ok
//: stdout used: ok
//: stdout main: EACCES
//: stdout library, unloaded: ok
//: log 1 deny bind
#include "check.h"
#include <dlfcn.h>
#include <libgen.h>

int main(void)
{
    char path[4096] = {0};
    must(readlink("/proc/self/exe", path, sizeof path - 20));
    strcat(dirname(path), "/host_library.so");
    void *library = dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL);
    must(library ? 0 : -1);
    void (*use)(const char *) = (void (*)(const char *))dlsym(library, "host_library_bind");
    use("used");
    int fd = tcp();
    say("main", bind_ip(fd, "127.0.0.1", 8080));
    close(fd);
    must(dlclose(library));
}
