// A program binds before any constructor has run, ours among them.
//: case deny
//: rule deny bind tcp *:8080
//: stdout bind before constructors: EACCES
//: stdout bind in main: EACCES
//: log 2 deny bind
#include "check.h"

static int early_result, early_errno;

static void early(int argc, char **argv, char **envp)
{
    (void)argc, (void)argv, (void)envp;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    early_result = bind_ip(fd, "127.0.0.1", 8080);
    early_errno = errno;
    close(fd);
}

__attribute__((section(".preinit_array"), used))
static void (*preinit)(int, char **, char **) = early;

int main(void)
{
    errno = early_errno;
    say("bind before constructors", early_result);
    say("bind in main", bind_ip(tcp(), "127.0.0.1", 8080));
}
