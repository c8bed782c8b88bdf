// A library of a program's own, which binds when it is loaded, when it is
// asked to, and when it goes.
//: driven
#include "check.h"

void host_library_bind(const char *where)
{
    int fd = tcp();
    say(where, bind_ip(fd, "127.0.0.1", 8080));
    close(fd);
}

__attribute__((constructor)) static void loaded(void) { host_library_bind("library, loaded"); }
__attribute__((destructor)) static void unloaded(void) { host_library_bind("library, unloaded"); }
