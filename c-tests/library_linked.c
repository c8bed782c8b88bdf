// A library that the program is linked with binds in its constructor, which
// may run before ours, and in its destructor.
//: library host_library linked
//: case deny
//: rule deny bind tcp *:8080
//: stdout library, loaded: EACCES
//: stdout main: EACCES
//: stdout library, unloaded: EACCES
//: log 3 deny bind
#include "check.h"

void host_library_bind(const char *where);

int main(void)
{
    host_library_bind("main");
}
