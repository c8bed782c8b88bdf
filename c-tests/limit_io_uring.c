// Limit: io_uring makes and binds sockets without a system call of its own for
// each, and no preload sees it. Linux can make them there since 5.19, and bind
// them since 6.11: what is missing is left out.
//: outside uses io_uring
//: unemulated QEMU has no io_uring
//: case deny
//: rule deny bind tcp *:8080
//: rule deny socket tcp
//: stdout socket by io_uring, if it can: ok
//: stdout bind by io_uring, if it can: ok
//: stdout socket: EACCES
//: log 1 deny socket
#include "check.h"
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

// Newer than the headers of Debian 12.
enum { OP_SOCKET = 45, OP_BIND = 56 };

static int ring;
static char *queue, *completions;
static struct io_uring_sqe *entries;
static struct io_uring_params params;

// One operation, and its result.
static int submit(struct io_uring_sqe entry)
{
    unsigned *tail = (unsigned *)(queue + params.sq_off.tail);
    unsigned mask = *(unsigned *)(queue + params.sq_off.ring_mask);
    unsigned *array = (unsigned *)(queue + params.sq_off.array);
    unsigned at = *tail & mask;

    entries[at] = entry;
    array[at] = at;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    must(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));

    unsigned *head = (unsigned *)(completions + params.cq_off.head);
    unsigned cq_mask = *(unsigned *)(completions + params.cq_off.ring_mask);
    struct io_uring_cqe *done = (struct io_uring_cqe *)(completions + params.cq_off.cqes);
    int res = done[*head & cq_mask].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    if (res >= 0)
        return res;
    errno = -res;
    return -1;
}

// Has this kernel the operation?
static int knows(int operation)
{
    struct {
        struct io_uring_probe head;
        struct io_uring_probe_op operations[256];
    } probe = {0};

    must(syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, &probe, 256));
    return operation <= probe.head.last_op
           && probe.operations[operation].flags & IO_URING_OP_SUPPORTED;
}

int main(void)
{
    int rw = PROT_READ | PROT_WRITE;

    ring = must(syscall(SYS_io_uring_setup, 4, &params));
    queue = mmap(NULL, params.sq_off.array + params.sq_entries * sizeof(unsigned), rw,
                 MAP_SHARED, ring, IORING_OFF_SQ_RING);
    completions = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
                       rw, MAP_SHARED, ring, IORING_OFF_CQ_RING);
    entries = mmap(NULL, params.sq_entries * sizeof *entries, rw, MAP_SHARED, ring,
                   IORING_OFF_SQES);

    int fd = -1;
    if (knows(OP_SOCKET))
        fd = submit((struct io_uring_sqe){.opcode = OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM});
    say("socket by io_uring, if it can", knows(OP_SOCKET) ? fd : 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(8080),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct io_uring_sqe bind = {
        .opcode = OP_BIND,
        .fd = fd,
        .addr = (unsigned long)&to,
        .off = sizeof to,
    };
    say("bind by io_uring, if it can", knows(OP_BIND) ? submit(bind) : 0);
    say("socket", socket(AF_INET, SOCK_STREAM, 0));
}
