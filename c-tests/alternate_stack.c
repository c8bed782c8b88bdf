// A bind in a signal handler on an alternate stack of so many bytes, with
// nothing below it.
//: driven
#include "check.h"

static volatile sig_atomic_t error = -1;

static void handler(int signal)
{
    (void)signal;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    error = bind_ip(fd, "127.0.0.1", 8190) < 0 ? errno : 0;
    close(fd);
}

int main(int argc, char **argv)
{
    size_t size = argc > 1 ? (size_t)atol(argv[1]) : 8192;
    char *pages = mmap(NULL, 4096 + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(pages == MAP_FAILED ? -1 : 0);
    must(mprotect(pages + 4096, size, PROT_READ | PROT_WRITE));
    stack_t stack = {.ss_sp = pages + 4096, .ss_size = size};
    must(sigaltstack(&stack, NULL));
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    must(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    errno = error;
    say("bind", error ? -1 : 0);
}
