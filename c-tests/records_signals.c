// A storm of signals: every handler makes, binds and closes sockets, into a
// program that does the same and allocates. Says how many binds there were.
//
//     records_signals [SIZE]      on an alternate stack of so many bytes
//: driven
#include "check.h"

enum { CALLS = 60000, IN_A_HANDLER = 10 };

static volatile sig_atomic_t handled, stop;
static long binds;
static pthread_t target;

static void one(int port, int expected)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    errno = 4242;
    int result = bind_ip(fd, "127.0.0.1", port);
    if (expected ? result != -1 || errno != expected : result != 0 || errno != 4242)
        abort();
    __atomic_add_fetch(&binds, 1, __ATOMIC_RELAXED);
    if (close(fd) != 0)
        abort();
}

static void on_signal(int signal)
{
    (void)signal;
    int e = errno;
    for (int i = 0; i < IN_A_HANDLER; i++)
        one(i % 2 ? 0 : 9000, i % 2 ? 0 : EACCES);
    handled++;
    errno = e;
}

// Not faster than they are handled.
static void *pelt(void *unused)
{
    (void)unused;
    while (!stop) {
        int was = handled;
        pthread_kill(target, SIGUSR1);
        while (handled == was && !stop)
            sched_yield();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (argc > 1) {
        // The page below is not there: whoever needs more stack dies.
        size_t size = (size_t)atol(argv[1]);
        char *memory = mmap(NULL, size + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(mprotect(memory + 4096, size, PROT_READ | PROT_WRITE));
        stack_t stack = {.ss_sp = memory + 4096, .ss_size = size};
        must(sigaltstack(&stack, NULL));
        action.sa_flags |= SA_ONSTACK;
    }
    must(sigaction(SIGUSR1, &action, NULL));
    target = pthread_self();
    pthread_t thread;
    must(pthread_create(&thread, NULL, pelt, NULL) ? -1 : 0);
    // Three hooked calls to a bind.
    for (size_t n = 0; handled * 3 * IN_A_HANDLER < CALLS; n++) {
        void *some = malloc(n % 3000);
        one(0, 0);
        free(some);
    }
    stop = 1;
    pthread_join(thread, NULL);
    printf("%d binds %ld\n", getpid(), binds);
}
