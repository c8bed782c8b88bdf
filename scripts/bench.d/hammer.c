/* One connection per request: `hammer PORT COUNT REQUEST` prints the
 * nanoseconds that COUNT requests took. The answer is read up to its end, or,
 * if REQUEST starts with PING, up to its first line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in a;
    struct linger hard = {1, 0};
    struct timespec t, u;
    char request[512], answer[16384];
    long i, count;
    size_t n = 0;
    const char *p;
    if (argc < 4)
        return 2;
    for (p = argv[3]; *p && n < sizeof request - 2; p++)
        if (*p == '|') {
            request[n++] = '\r';
            request[n++] = '\n';
        } else
            request[n++] = *p;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((uint16_t)atoi(argv[1]));
    count = atol(argv[2]);
    clock_gettime(CLOCK_MONOTONIC, &t);
    for (i = 0; i < count; i++) {
        ssize_t got, all = 0;
        int s = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(s, (struct sockaddr *)&a, sizeof a) || write(s, request, n) != (ssize_t)n) {
            perror("hammer");
            return 1;
        }
        while ((got = read(s, answer, sizeof answer)) > 0) {
            all += got;
            if (!strncmp(request, "PING", 4))
                break;
        }
        if (all == 0) {
            fprintf(stderr, "hammer: no answer\n");
            return 1;
        }
        /* No TIME_WAIT: ports would run out. */
        setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(s);
    }
    clock_gettime(CLOCK_MONOTONIC, &u);
    printf("%lld\n", (long long)(u.tv_sec - t.tv_sec) * 1000000000ll + (u.tv_nsec - t.tv_nsec));
    return 0;
}
