// Nanoseconds for socket+bind+close, and for connect+accept on loopback: the
// smallest of many short batches. scripts/bench-isolate runs it.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int tcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        exit(1);
    return fd;
}

int main(void)
{
    enum { BATCHES = 40, BINDS = 200, CONNECTIONS = 50 };
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    double bind_ns = 1e18, connect_ns = 1e18;
    to.sin_port = htons(20100);
    for (int b = 0; b < BATCHES; b++) {
        double start = now();
        for (int i = 0; i < BINDS; i++) {
            int fd = tcp();
            if (bind(fd, (void *)&to, sizeof to))
                return 1;
            close(fd);
        }
        double ns = (now() - start) / BINDS;
        bind_ns = ns < bind_ns ? ns : bind_ns;
    }
    int listener = tcp(), one = 1;
    to.sin_port = htons(20101);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&to, sizeof to) || listen(listener, 16))
        return 1;
    for (int b = 0; b < BATCHES; b++) {
        double start = now();
        for (int i = 0; i < CONNECTIONS; i++) {
            // Reset and not closed: no TIME_WAIT is left.
            struct linger at_once = {1, 0};
            int client = tcp();
            if (connect(client, (void *)&to, sizeof to))
                return 1;
            int served = accept(listener, 0, 0);
            setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            close(client);
            close(served);
        }
        double ns = (now() - start) / CONNECTIONS;
        connect_ns = ns < connect_ns ? ns : connect_ns;
    }
    printf("%.0f %.0f\n", bind_ns, connect_ns);
}
