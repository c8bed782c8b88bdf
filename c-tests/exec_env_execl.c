// clearenv(), then execl(), with more arguments than registers, and than a
// frame has room for.
//: unfiltered starts a program, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout arguments: 102
//: stdout bind: EACCES
//: log 1 deny bind
#include "exec_env.h"

#define TEN "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"

int main(int argc, char **argv)
{
    if (argc > 1) {
        say_number("arguments", argc);
        return second_life();
    }
    clearenv();
    execl("/proc/self/exe", argv[0], "again", TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, NULL);
    return 1;
}
