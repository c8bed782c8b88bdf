// UDP echo server: sends every datagram back to where it came from.
//
// Usage: udp_echo_server PORT
//: driven
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }

    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) {
        perror("socket");
        return 1;
    }

    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("bind");
        return 1;
    }
    printf("listening on UDP port %s\n", argv[1]);
    fflush(stdout);

    for (;;) {
        char buffer[65536];
        struct sockaddr_in client;
        socklen_t length = sizeof client;
        ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0,
                             (struct sockaddr *)&client, &length);
        if (n < 0) {
            perror("recvfrom");
            return 1;
        }
        if (sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&client, length) < 0)
            perror("sendto");
    }
}
