// TCP echo server: one child process for each client.
//
// Usage: tcp_echo_server PORT
//: driven
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void serve(int client)
{
    char buffer[4096];
    ssize_t n;

    while ((n = read(client, buffer, sizeof buffer)) > 0) {
        char *p = buffer;
        while (n > 0) {
            ssize_t written = write(client, p, (size_t)n);
            if (written < 0) {
                perror("write");
                return;
            }
            p += written;
            n -= written;
        }
    }
    if (n < 0)
        perror("read");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    signal(SIGCHLD, SIG_IGN); // the system reaps the children

    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0) {
        perror("socket");
        return 1;
    }
    int on = 1;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) {
        perror("setsockopt");
        return 1;
    }

    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("bind");
        return 1;
    }
    if (listen(listener, SOMAXCONN) < 0) {
        perror("listen");
        return 1;
    }
    printf("listening on TCP port %s\n", argv[1]);
    fflush(stdout);

    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) {
            perror("accept");
            return 1;
        }
        switch (fork()) {
        case -1:
            perror("fork");
            break;
        case 0:
            close(listener);
            serve(client);
            _exit(0);
        }
        close(client);
    }
}
