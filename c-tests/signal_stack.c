// The same calls from a handler on a small alternate stack.
//: case deny
//: rule deny bind tcp 127.0.0.3:*
//: same
#include "check.h"

static volatile sig_atomic_t result = -1;

static void on_signal(int signal)
{
    (void)signal;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    result = bind_ip(fd, "127.0.0.1", 8080);
    close(fd);
}

int main(void)
{
    enum { SIZE = 16384 };
    char *memory = mmap(NULL, SIZE + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(mprotect(memory + 4096, SIZE, PROT_READ | PROT_WRITE));
    stack_t stack = {.ss_sp = memory + 4096, .ss_size = SIZE};
    must(sigaltstack(&stack, NULL));
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    must(sigaction(SIGUSR1, &action, NULL));
    for (int i = 0; i < 100; i++)
        raise(SIGUSR1);
    say("bind in the handler", result);
}
