// A library is opened, used and closed; then the program goes on.
//: library host_library
//: case deny
//: rule deny bind tcp *:8080
//: stdout library, loaded: EACCES
//: stdout used: EACCES
//: stdout library, unloaded: EACCES
//: stdout after it: EACCES
//: log 4 deny bind
#include "check.h"
#include <dlfcn.h>
#include <libgen.h>

int main(void)
{
    char path[4096] = {0};
    must(readlink("/proc/self/exe", path, sizeof path - 20));
    strcat(dirname(path), "/host_library.so");
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    must(library ? 0 : -1);
    void (*use)(const char *) = (void (*)(const char *))dlsym(library, "host_library_bind");
    use("used");
    must(dlclose(library));
    say("after it", bind_ip(tcp(), "127.0.0.1", 8080));
}
