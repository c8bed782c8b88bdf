// Binds in a constructor, at exit, and in a destructor.
//: case deny
//: rule deny bind tcp *:8080
//: stdout constructor: EACCES
//: stdout main: EACCES
//: stdout at exit: EACCES
//: stdout destructor: EACCES
//: log 4 deny bind
#include "check.h"

static void try(const char *where)
{
    int fd = tcp();
    say(where, bind_ip(fd, "127.0.0.1", 8080));
    close(fd);
}

__attribute__((constructor)) static void before(void) { try("constructor"); }
__attribute__((destructor)) static void after(void) { try("destructor"); }
static void at_exit(void) { try("at exit"); }

int main(void)
{
    atexit(at_exit);
    try("main");
}
