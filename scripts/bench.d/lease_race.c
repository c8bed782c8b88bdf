// Ask for a port and bind it later, as test suites do: PROCESSES times ROUNDS of it at
// once. Says how many rounds lost their port to somebody else.
//
//     lease_race PROCESSES ROUNDS
//     lease_race neighbour        asks, binds and closes until it is ended
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct counts {
    long lost, none, other;
};

static int bound(unsigned short port, int *fd) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return *fd < 0 ? -1 : bind(*fd, (struct sockaddr *)&to, sizeof to);
}

static unsigned short port_of(int fd) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &length) != 0)
        exit(1);
    return ntohs(name.sin_port);
}

static void rounds(long n, struct counts *counts) {
    for (long i = 0; i < n; i++) {
        int fd;
        if (bound(0, &fd) != 0) {
            // Others have every port at this moment.
            __atomic_fetch_add(&counts->none, 1, __ATOMIC_RELAXED);
            close(fd);
            continue;
        }
        unsigned short port = port_of(fd);
        close(fd);
        // What comes between: a server is started.
        for (int k = 0; k < 20; k++)
            sched_yield();
        if (bound(port, &fd) != 0 || listen(fd, 1) != 0)
            __atomic_fetch_add(errno == EADDRINUSE ? &counts->lost : &counts->other, 1,
                               __ATOMIC_RELAXED);
        close(fd);
    }
}

static void neighbour(void) {
    int kept[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    for (unsigned i = 0;; i++) {
        int *fd = &kept[i % 8];
        if (*fd >= 0)
            close(*fd);
        if (bound(0, fd) == 0)
            listen(*fd, 1);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "neighbour") == 0)
        neighbour();
    if (argc != 3)
        return 2;
    int processes = atoi(argv[1]);
    long n = atol(argv[2]);
    struct counts *counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        return 1;
    for (int i = 0; i < processes; i++) {
        if (fork() == 0) {
            rounds(n, counts);
            _exit(0);
        }
    }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed += status != 0;
    printf("%ld rounds, %ld lost, %ld without a free port, %ld other errors\n", processes * n,
           counts->lost, counts->none, counts->other);
    return failed != 0 || counts->lost != 0 || counts->other != 0;
}
