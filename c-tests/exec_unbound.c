// A socket is inherited over exec and bound by the new program.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind after exec: EACCES
//: stdout name: 0.0.0.0:0 (16 bytes)
//: log 1 deny bind
#include "check.h"

int main(int argc, char **argv)
{
    if (argc == 1) {
        must(dup2(tcp(), 10));
        execl("/proc/self/exe", argv[0], "again", NULL);
        must(-1);
    }
    say("bind after exec", bind_ip(10, "127.0.0.1", 8080));
    say_name("name", 10);
}
