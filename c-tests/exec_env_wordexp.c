// wordexp() after the environment was cleared.
//: unfiltered starts a shell, in which the library starts too
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind:
//: stdout EACCES
//: log 1 deny bind
#include "exec_env.h"
#include <wordexp.h>

int main(int argc, char **argv)
{
    if (argc > 1)
        return second_life();
    char command[4200];
    snprintf(command, sizeof command, "$(%s again)", argv[0]);
    clearenv();
    wordexp_t words;
    must(-wordexp(command, &words, 0));
    for (size_t i = 0; i < words.we_wordc; i++)
        if (!strncmp(words.we_wordv[i], "bind", 4) || !strncmp(words.we_wordv[i], "EACC", 4))
            printf("%s\n", words.we_wordv[i]);
    return 0;
}
