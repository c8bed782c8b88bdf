// A process that is killed after each of its instructions on the way through a
// bind: whoever comes next gets the address, alone, and under its name.
//
//     killed_at_each_step vsock|tcp STRIDE
//
// STRIDE 1: after each instruction; else after each STRIDE-th.
//: driven
#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 20600 };

static int is_vsock;

static int make(void) { return socket(is_vsock ? AF_VSOCK : AF_INET, SOCK_STREAM, 0); }

static int bind_one(int fd)
{
    if (is_vsock) {
        struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = PORT, .svm_cid = VMADDR_CID_ANY};
        return bind(fd, (struct sockaddr *)&a, sizeof a);
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return bind(fd, (struct sockaddr *)&a, sizeof a);
}

static int port_of(int fd)
{
    if (is_vsock) {
        struct sockaddr_vm a;
        socklen_t len = sizeof a;
        return getsockname(fd, (struct sockaddr *)&a, &len) ? -1 : (int)a.svm_port;
    }
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    return getsockname(fd, (struct sockaddr *)&a, &len) ? -1 : ntohs(a.sin_port);
}

static void wait_for(pid_t pid, int *status)
{
    if (waitpid(pid, status, 0) != pid) {
        perror("waitpid");
        exit(1);
    }
}

// Kills a process after so many instructions of its bind. Did it come so far?
static int kill_after(long steps, long *counted)
{
    pid_t pid = fork();
    if (pid == 0) {
        int fd = make();
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        bind_one(fd);
        raise(SIGSTOP);
        _exit(0);
    }
    int status, inside = 1;
    wait_for(pid, &status);
    long done = 0;
    while (done < steps && inside) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL)) {
            perror("ptrace");
            exit(1);
        }
        wait_for(pid, &status);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            printf("after %ld steps it ended by itself\n", done);
            exit(1);
        }
        inside = WSTOPSIG(status) == SIGTRAP;
        done++;
    }
    kill(pid, SIGKILL);
    wait_for(pid, &status);
    *counted = done;
    return inside;
}

// What is wrong for those who come next?
static const char *next(void)
{
    int first = make(), second = make();
    const char *wrong = NULL;
    if (bind_one(first) != 0)
        wrong = strerror(errno);
    else if (port_of(first) != PORT)
        wrong = "another name";
    else if (listen(first, 1) != 0)
        wrong = "does not listen";
    else if (bind_one(second) == 0 || errno != EADDRINUSE)
        wrong = "two have it";
    close(first);
    close(second);
    return wrong;
}

int main(int count, char **args)
{
    if (count != 3)
        return 2;
    is_vsock = !strcmp(args[1], "vsock");
    long stride = atol(args[2]), kills = 0, bad = 0, counted = 0;
    if (next())
        return 2;
    for (long first = stride > 1 ? stride / 2 : 1, at = first;; at += stride, kills++) {
        int inside = kill_after(at, &counted);
        const char *wrong = next();
        if (wrong) {
            printf("killed after %ld instructions: %s\n", counted, wrong);
            bad++;
        }
        if (!inside)
            break;
    }
    fprintf(stderr, "%ld killed on %ld instructions\n", kills, counted);
    printf("%s\n", bad ? "not well" : "all well");
    return bad != 0;
}
