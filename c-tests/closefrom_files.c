// closefrom(), then files at the numbers that became free: each holds what the
// program wrote into it and nothing else.
//: case deny
//: rule deny bind any *
//: rule deny socket udp
//: same
#include "check.h"

enum { FILES = 60 };

int main(void)
{
    for (int i = 0; i < 20; i++)
        tcp();
    closefrom(3);
    int fds[FILES];
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "file%d", i);
        fds[i] = must(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
        unlink(name);
    }
    say_number("first number", fds[0]);
    say_number("last number", fds[FILES - 1]);
    for (int i = 0; i < FILES; i++) {
        // Calls that are decided on, between the writes.
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct address a = ip("192.0.2.1", 1);
        bind(fd, &a.any, a.length);
        bind(fds[i], &a.any, a.length);
        close(fd);
        must(dprintf(fds[i], "contents of %d\n", i));
    }
    int intact = 0;
    for (int i = 0; i < FILES; i++) {
        char expected[64], found[256] = {0};
        snprintf(expected, sizeof expected, "contents of %d\n", i);
        must(pread(fds[i], found, sizeof found - 1, 0));
        intact += strcmp(expected, found) == 0;
    }
    say_number("intact", intact);
}
