// A server with four bugs, each of which a line of server.policy or busy.policy finds.
// Built with -DFIXED it has none of them.
//
//     cc -o server examples/check/server.c
//     bindgate check --policy examples/check/server.policy -- ./server 8080
//     bindgate check --policy examples/check/busy.policy -- ./server 8080
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef FIXED
enum { REUSES = 1, TRIES = 100, TYPE = SOCK_STREAM | SOCK_CLOEXEC };
static const char *const address = "127.0.0.1";
#else
// 1: everybody can reach it; 2: after a restart the port is busy for a minute; 3: it does
// not try again; 4: its helper has the listener open, and keeps the port.
enum { REUSES = 0, TRIES = 1, TYPE = SOCK_STREAM };
static const char *const address = "0.0.0.0";
#endif

int main(int argc, char **argv)
{
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);

    struct sockaddr_in at = {
        .sin_family = AF_INET,
        .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8080),
    };
    inet_pton(AF_INET, address, &at.sin_addr);

    int listener = socket(AF_INET, TYPE, 0);
    int on = REUSES;
    if (on)
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    for (int tried = 1; bind(listener, (struct sockaddr *)&at, sizeof at) != 0; tried++) {
        if (errno != EADDRINUSE || tried == TRIES) {
            perror("bind");
            return 1;
        }
        usleep(20000);
    }
    // A helper that outlives the server.
    if (fork() == 0) {
        sigprocmask(SIG_UNBLOCK, &end, NULL);
        execlp("sleep", "sleep", "600", (char *)NULL);
        _exit(127);
    }
    if (listen(listener, 16) != 0) {
        perror("listen");
        return 1;
    }
    int number;
    sigwait(&end, &number);
    return 0;
}
