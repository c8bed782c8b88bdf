// Processes that race for one address: in each round exactly one gets it, also
// where the one before was killed with it, or one is killed on its way.
//
//     races vsock|tcp PROCESSES ROUNDS
//
// Says how many rounds had one winner, and of each other one how many.
//: driven
#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 256, PORT = 20500 };
enum { NOTHING, WON, REFUSED, ODD };

static struct {
    // Counts begins (odd) and ends (even) of rounds; how often anybody was through.
    atomic_int round, through_at;
    // Up to which of them each process is through, and what it got.
    atomic_int through[MOST], outcome[MOST], error[MOST];
} *shared;

static int is_vsock, processes;
// 0: dead.
static pid_t pids[MOST];

static void wait_while(atomic_int *at, int value)
{
    while (atomic_load(at) == value)
        syscall(SYS_futex, at, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void wake(atomic_int *at) { syscall(SYS_futex, at, FUTEX_WAKE, 1 << 30, NULL, NULL, 0); }

// The same address for all: at the same port each way is in every other's way. A port of
// a vsock host that was never held is another matter than one that was: each is asked for
// in two rounds.
static int bind_one(int fd, int me, int round)
{
    if (!is_vsock) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT)};
        a.sin_addr.s_addr = htonl(me % 2 ? INADDR_ANY : INADDR_LOOPBACK);
        return bind(fd, (struct sockaddr *)&a, sizeof a);
    }
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = PORT + round / 4};
    a.svm_cid = me % 4 < 2 ? VMADDR_CID_ANY : 3;
    return bind(fd, (struct sockaddr *)&a, sizeof a);
}

static int next(int me, int round)
{
    atomic_store(&shared->through[me], round);
    atomic_fetch_add(&shared->through_at, 1);
    wake(&shared->through_at);
    wait_while(&shared->round, round);
    return atomic_load(&shared->round);
}

static void work(int me, int round)
{
    for (;;) {
        int type = is_vsock && me % 2 ? SOCK_SEQPACKET : SOCK_STREAM;
        int fd = socket(is_vsock ? AF_VSOCK : AF_INET, type, 0);
        round = next(me, round);
        int got = bind_one(fd, me, round);
        shared->error[me] = got == 0 ? 0 : errno;
        shared->outcome[me] = got == 0 ? WON : errno == EADDRINUSE ? REFUSED : ODD;
        // Until the round ends nobody gives up what it has.
        round = next(me, round);
        close(fd);
    }
}

static void start(int me)
{
    int round = atomic_load(&shared->round);
    atomic_store(&shared->through[me], round - 1);
    pids[me] = fork();
    if (pids[me] == 0)
        work(me, round);
    if (pids[me] < 0) {
        perror("fork");
        exit(1);
    }
}

static void kill_one(int me)
{
    kill(pids[me], SIGKILL);
    waitpid(pids[me], NULL, 0);
    pids[me] = 0;
}

// Waits until all that live are through.
static void settle(void)
{
    for (int me = 0; me < processes; me++)
        for (;;) {
            int seen = atomic_load(&shared->through_at);
            if (pids[me] == 0 || atomic_load(&shared->through[me]) == atomic_load(&shared->round))
                break;
            wait_while(&shared->through_at, seen);
        }
}

// Begins a round or ends it, for all that live.
static void turn(int killed)
{
    atomic_fetch_add(&shared->round, 1);
    wake(&shared->round);
    if (killed >= 0) {
        // On its way, somewhere.
        usleep(rand() % 300);
        kill_one(killed);
    }
    settle();
}

int main(int count, char **args)
{
    if (count != 4)
        return 2;
    is_vsock = !strcmp(args[1], "vsock");
    processes = atoi(args[2]);
    int rounds = atoi(args[3]), good = 0, with_it = 0, on_the_way = 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int me = 0; me < processes; me++)
        start(me);
    for (int n = 0; n < rounds; n++) {
        settle();
        for (int me = 0; me < processes; me++)
            shared->outcome[me] = NOTHING;
        int killed = n % 4 == 3 ? rand() % processes : -1;
        turn(killed);
        int winners = 0, winner = -1;
        for (int me = 0; me < processes; me++) {
            if (shared->outcome[me] == WON && me != killed) {
                winners++;
                winner = me;
            }
            if (shared->outcome[me] == ODD) {
                printf("round %d: process %d: %s\n", n, me, strerror(shared->error[me]));
                winners = MOST;
            }
        }
        // Whoever was killed on its way may have had it; the next may have it after
        // that, or all may have come before.
        int is_open = killed >= 0 && shared->outcome[killed] != REFUSED;
        on_the_way += killed >= 0 && shared->outcome[killed] == NOTHING;
        if (winners == 1 || (winners == 0 && is_open))
            good++;
        else
            printf("round %d: %d winners\n", n, winners);
        // The next round finds what a dead process has left.
        if (n % 2 && winner >= 0) {
            kill_one(winner);
            with_it++;
        }
        turn(-1);
        for (int me = 0; me < processes; me++)
            if (pids[me] == 0)
                start(me);
    }
    for (int me = 0; me < processes; me++)
        kill_one(me);
    printf("%d of %d rounds had one winner\n", good, rounds);
    fprintf(stderr, "%d killed on their way, %d with the address\n", on_the_way, with_it);
    return good != rounds;
}
