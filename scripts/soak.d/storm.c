/* Storms for scripts/soak. Each checks every answer that it gets; ends with 0
 * if all were right, and prints how many binds it made.
 *
 *   storm signals CALLS [ALTSTACK-BYTES]   from signal handlers
 *   storm forks SECONDS                    children of a threaded program
 *   storm threads SECONDS COUNT            many threads
 *   storm loop SECONDS                     one process, until it is killed
 *   storm tree SECONDS COUNT               COUNT processes that loop
 *   storm scribble SECONDS SEED            random bytes over the shared state
 *
 * The policy that this expects: tcp port 20099 is refused with EACCES, 20098
 * is moved to 20198, everything else is allowed. Without one, set PLAIN=1. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int plain;
static volatile long binds, handled, wrong;
static double end;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + t.tv_nsec / 1e9;
}

static void say_wrong(const char *what, int got)
{
    char line[128];
    int n = snprintf(line, sizeof line, "wrong: %s: %d, errno %d\n", what, got, errno);
    if (__sync_add_and_fetch(&wrong, 1) <= 10 && write(2, line, (size_t)n) < 0)
        _exit(9);
}

/* socket, bind, close; every answer checked. Async-signal-safe. */
static void one(int port, int expected)
{
    struct sockaddr_in a;
    int s, r, yes = 1, before = 4711;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((uint16_t)port);
    s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0) {
        say_wrong("socket", s);
        return;
    }
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    errno = before;
    r = bind(s, (struct sockaddr *)&a, sizeof a);
    if (expected ? r != -1 || errno != expected : r != 0 || errno != before)
        say_wrong(expected ? "bind that is refused" : "bind that is allowed", r);
    __sync_add_and_fetch(&binds, 1);
    r = close(s);
    if (r)
        say_wrong("close", r);
}

static void three(int port)
{
    one(port, 0);
    one(20099, plain ? 0 : EACCES);
    one(0, 0);
}

/* --- signals --- */

static void on_signal(int n)
{
    int saved = errno;
    (void)n;
    for (n = 0; n < 10; n++)
        three(20010);
    __sync_add_and_fetch(&handled, 1);
    errno = saved;
}

static volatile int stop;
static pthread_t target;

static void *pelt(void *unused)
{
    (void)unused;
    while (!stop) {
        long was = handled;
        pthread_kill(target, SIGUSR1);
        /* Not faster than they are handled: real-time signals would queue. */
        while (handled == was && !stop)
            sched_yield();
    }
    return NULL;
}

static int signals(long calls, size_t alt)
{
    struct sigaction sa;
    pthread_t t;
    long n = 0;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sa.sa_flags = SA_RESTART | (alt ? SA_ONSTACK : 0);
    if (alt) {
        /* The page below is not there: whoever needs more stack dies. */
        size_t size = (alt + 4095) / 4096 * 4096;
        char *m = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_t ss = {m + 4096 + (size - alt), 0, alt};
        mprotect(m, 4096, PROT_NONE);
        if (sigaltstack(&ss, NULL)) {
            perror("sigaltstack");
            return 2;
        }
    }
    sigaction(SIGUSR1, &sa, NULL);
    target = pthread_self();
    pthread_create(&t, NULL, pelt, NULL);
    /* 90 hooked calls a handler: 30 × socket, bind, close. */
    while (handled * 90 < calls) {
        void *p = malloc((size_t)(n % 3000));
        one(20011, 0);
        free(p);
        n++;
    }
    stop = 1;
    pthread_join(t, NULL);
    printf("%ld binds, %ld handlers\n", binds, handled);
    return wrong != 0;
}

/* --- forks --- */

static void *forker(void *arg)
{
    int port = 20020 + (int)(intptr_t)arg;
    while (now() < end) {
        pid_t pid = fork();
        int status;
        if (pid == 0) {
            three(port);
            _exit(wrong != 0);
        }
        one(port + 20, 0);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            say_wrong("child", pid < 0 ? -1 : status);
        __sync_add_and_fetch(&handled, 1);
    }
    return NULL;
}

static int forks(void)
{
    pthread_t t[4];
    long i;
    for (i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, forker, (void *)i);
    for (i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("%ld binds, %ld children\n", binds + 3 * handled, handled);
    return wrong != 0;
}

/* --- threads --- */

static void *binder(void *arg)
{
    while (now() < end)
        three(21000 + (int)(intptr_t)arg);
    return NULL;
}

static int threads(long count)
{
    pthread_t t[256];
    long i;
    for (i = 0; i < count; i++)
        pthread_create(&t[i], NULL, binder, (void *)i);
    for (i = 0; i < count; i++)
        pthread_join(t[i], NULL);
    printf("%ld binds\n", binds);
    return wrong != 0;
}

static int loop(void)
{
    while (now() < end)
        three(22000 + (int)(getpid() % 8000));
    printf("%ld binds\n", binds);
    return wrong != 0;
}

static int tree(long count)
{
    long i;
    int status, bad = 0;
    for (i = 0; i < count; i++)
        if (fork() == 0) {
            char seconds[32];
            snprintf(seconds, sizeof seconds, "%f", end - now());
            execl("/proc/self/exe", "storm", "loop", seconds, NULL);
            _exit(9);
        }
    while (wait(&status) > 0)
        bad |= !(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return bad;
}

/* --- scribble --- */

static int scribble(unsigned seed)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512], rights[8];
    unsigned long from, to, shared[16][2];
    int n = 0, i;
    long written = 0;
    while (f && fgets(line, sizeof line, f) && n < 16)
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 && rights[3] == 's') {
            if (rights[1] == 'w') {
                shared[n][0] = from;
                shared[n++][1] = to;
            } else if (mprotect((void *)from, to - from, PROT_READ | PROT_WRITE) == 0) {
                fprintf(stderr, "wrong: a mapping of the run could be made writable: %s", line);
                return 1;
            }
        }
    if (!n) {
        fprintf(stderr, "nothing is mapped shared and writable\n");
        return plain ? 0 : 1;
    }
    srandom(seed);
    while (now() < end) {
        for (i = 0; i < 1000; i++) {
            int k = (int)(random() % n);
            unsigned long size = shared[k][1] - shared[k][0];
            volatile unsigned char *at = (volatile unsigned char *)shared[k][0] +
                                         (random() % 4 ? (unsigned long)random() % size : (unsigned long)random() % 8192);
            switch (random() % 4) {
            case 0: *at = (unsigned char)random(); break;
            case 1: *(volatile uint64_t *)((uintptr_t)at & ~7ul) = ~0ull; break;
            case 2: *(volatile uint64_t *)((uintptr_t)at & ~7ul) ^= 1ull << (random() % 64); break;
            default: *(volatile uint32_t *)((uintptr_t)at & ~3ul) = (uint32_t)random(); break;
            }
            written++;
        }
        {
            /* Its own calls must come back, whatever they answer. */
            struct sockaddr_in a = {.sin_family = AF_INET};
            int s = socket(AF_INET, SOCK_STREAM, 0);
            a.sin_port = htons((uint16_t)(random() % 3 ? 20098 : 0));
            bind(s, (struct sockaddr *)&a, sizeof a);
            listen(s, 1);
            close(s);
        }
    }
    printf("%ld scribbles\n", written);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    plain = getenv("PLAIN") != NULL;
    end = now() + seconds;
    if (!strcmp(what, "signals"))
        return signals(atol(argv[2]), argc > 3 ? (size_t)atol(argv[3]) : 0);
    if (!strcmp(what, "forks"))
        return forks();
    if (!strcmp(what, "threads"))
        return threads(argc > 3 ? atol(argv[3]) : 64);
    if (!strcmp(what, "loop"))
        return loop();
    if (!strcmp(what, "tree"))
        return tree(argc > 3 ? atol(argv[3]) : 8);
    if (!strcmp(what, "scribble"))
        return scribble(argc > 3 ? (unsigned)atol(argv[3]) : 1);
    return 2;
}
