// A program closes 0, 1 and 2 and opens data files there: not a byte more in
// them than it wrote, and sockets work as well under these numbers.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind of descriptor 0: EACCES
//: stdout data in 1: ok
//: stdout data in 2: ok
//: log 1 deny bind
#include "check.h"

static int intact(int fd, const char *expected)
{
    char found[256] = {0};
    must(pread(fd, found, sizeof found - 1, 0));
    errno = EIO;
    return strcmp(found, expected) == 0 ? 0 : -1;
}

int main(void)
{
    int out = must(fcntl(1, F_DUPFD_CLOEXEC, 10));
    close(0);
    close(1);
    close(2);
    must(tcp() == 0 ? 0 : -1);
    must(open("one", O_RDWR | O_CREAT | O_TRUNC, 0600) == 1 ? 0 : -1);
    must(open("two", O_RDWR | O_CREAT | O_TRUNC, 0600) == 2 ? 0 : -1);
    must(write(1, "first ", 6));
    must(write(2, "first ", 6));
    int result = bind_ip(0, "127.0.0.1", 8080);
    int e = errno;
    must(write(1, "second", 6));
    must(write(2, "second", 6));
    int one = intact(1, "first second");
    int two = intact(2, "first second");
    must(dup2(out, 1));
    errno = e;
    say("bind of descriptor 0", result);
    errno = EIO;
    say("data in 1", one);
    say("data in 2", two);
    unlink("one");
    unlink("two");
}
