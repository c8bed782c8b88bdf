// A program that goes at its own run: it scribbles over what is mapped,
// truncates what it can open and guesses what it was not told. Beside it
// another one binds, and must get the right answers.
//
//     tampers sibling     binds until its standard input ends
//     tampers [GUESSES]   tampers a million times, and guesses so often
//: driven
#include "check.h"
#include <sys/uio.h>

static int sibling(void)
{
    long binds = 0;
    struct pollfd end = {.fd = 0, .events = POLLIN};
    while (poll(&end, 1, 0) == 0) {
        int fd = tcp();
        if (bind_ip(fd, "127.0.0.1", 8080) == 0 || errno != EACCES)
            abort();
        if (bind_ip(fd, "127.0.0.1", 0) != 0)
            abort();
        close(fd);
        binds++;
    }
    say("sibling", binds > 0 ? 0 : -1);
    return 0;
}

static uint64_t random_word(void)
{
    static uint64_t x = 0x9e3779b97f4a7c15;
    x ^= x << 13;
    x ^= x >> 7;
    return x ^= x << 17;
}

// Can the memory file behind this path be cut or written?
static int gives_way(const char *path)
{
    int fd = open(path, O_RDWR);
    if (fd < 0)
        return 0;
    int cut = ftruncate(fd, 0) == 0 || ftruncate(fd, 1 << 30) == 0;
    close(fd);
    return cut;
}

static int cuts(const char *dir)
{
    int cut = 0;
    for (int fd = 0; fd < 64; fd++) {
        char path[64], target[64] = {0};
        snprintf(path, sizeof path, "%s/%d", dir, fd);
        if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "memfd:bindgate"))
            cut += gives_way(path);
    }
    return cut;
}

// Does the word at `at`, in a mapping without write access, give way to what
// asks for no such access?
static int is_written(unsigned long at, unsigned long end)
{
    volatile uint64_t *word = (volatile uint64_t *)at;
    uint64_t before = *word, other = ~before;
    struct iovec from = {&other, sizeof other}, to = {(void *)at, sizeof other};
    char file[64];
    snprintf(file, sizeof file, "/proc/self/map_files/%lx-%lx", at, end);
    const char *const ways[] = {"/proc/self/mem", file};
    for (size_t i = 0; i < COUNT(ways); i++) {
        int fd = open(ways[i], O_RDWR);
        // What it answers is not what counts.
        ssize_t done = pwrite(fd, &other, sizeof other, i == 0 ? (off_t)at : 0);
        done = i == 0 ? done : ftruncate(fd, 0);
        close(fd);
    }
    process_vm_writev(getpid(), &from, 1, &to, 1, 0);
    madvise((void *)at, end - at, MADV_REMOVE);
    return *word != before;
}

// Asks the run for its memory, with a word that was not told.
static int guesses(const char *run, long times)
{
    struct address a = {.un.sun_family = AF_UNIX};
    int length = snprintf(a.un.sun_path + 1, 100, "bindgate/%.16s", run);
    a.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    int opened = 0;
    for (long i = 0; i < times; i++) {
        int fd = must(socket(AF_UNIX, SOCK_SEQPACKET, 0));
        must(connect(fd, &a.any, a.length));
        char hello[40];
        snprintf(hello, sizeof hello, "%016lx%016lx", (long)random_word(), (long)random_word());
        must(send(fd, hello, sizeof hello, MSG_NOSIGNAL));
        char byte[64], control[64];
        struct iovec io = {byte, sizeof byte};
        struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1,
                           .msg_control = control, .msg_controllen = sizeof control};
        opened += recvmsg(fd, &m, 0) > 0 && m.msg_controllen > 0;
        close(fd);
    }
    return opened;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "sibling") == 0)
        return sibling();
    char line[512], rights[8], drainer[64] = {0};
    unsigned long from, to, at = 0, size = 0;
    int sealed = 0, writable = 0, written = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        if (!strstr(line, "memfd:bindgate")
            || sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3)
            continue;
        if (rights[1] == 'w') {
            at = from;
            size = to - from;
        } else {
            sealed++;
            writable += mprotect((void *)from, to - from, PROT_READ | PROT_WRITE) == 0;
            written += is_written(from, to);
        }
    }
    fclose(maps);
    // ID.SECRET.PID.POLICY.STATE.MODE
    const char *run = getenv("BINDGATE_RUN");
    must(run && at && sealed ? 0 : -1);
    snprintf(drainer, sizeof drainer, "/proc/%d/fd", atoi(run + 16 + 1 + 32 + 1));
    say_number("policies that could be made writable", writable);
    say_number("policies that were written", written);
    say_number("memory files that gave way", cuts(drainer) + cuts("/proc/self/fd"));
    say_number("guesses that were right", guesses(run, argc > 1 ? atol(argv[1]) : 200));
    for (int i = 0; i < 1000000; i++) {
        uint64_t r = random_word();
        volatile uint8_t *to = (volatile uint8_t *)at + (r % 4 ? r / 4 % size : r / 4 % 8192);
        switch (r >> 60 & 3) {
        case 0: *to = (uint8_t)(r >> 32); break;
        case 1: *(volatile uint64_t *)((uintptr_t)to & ~7ul) = ~0ull; break;
        case 2: *(volatile uint64_t *)((uintptr_t)to & ~7ul) ^= 1ull << (r >> 50 & 63); break;
        default: *(volatile uint32_t *)((uintptr_t)to & ~3ul) = (uint32_t)(r >> 16);
        }
        if (i % 1000 == 0) {
            // Its own calls come back, whatever they answer.
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            bind_ip(fd, "127.0.0.1", 0);
            listen(fd, 1);
            close(fd);
        }
    }
    say("tampering", 0);
}
