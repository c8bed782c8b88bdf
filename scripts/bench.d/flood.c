/* Full load: `flood PORT SECONDS` makes, binds and closes sockets as fast as it
 * can and prints how often. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in a;
    long n = 0;
    double end;
    struct timespec t;
    if (argc < 3)
        return 2;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((unsigned short)atoi(argv[1]));
    clock_gettime(CLOCK_MONOTONIC, &t);
    end = (double)t.tv_sec + t.tv_nsec / 1e9 + atof(argv[2]);
    do {
        int i;
        for (i = 0; i < 100; i++, n++) {
            int s = socket(AF_INET, SOCK_STREAM, 0);
            /* Whoever looks at /proc/PID/fd just then keeps the socket before
             * open for a moment, with its port: that is no fault. */
            if (bind(s, (struct sockaddr *)&a, sizeof a) && errno != EADDRINUSE) {
                fprintf(stderr, "flood: descriptor %d: %s, after %ld binds\n", s, strerror(errno), n);
                return 1;
            }
            close(s);
        }
        clock_gettime(CLOCK_MONOTONIC, &t);
    } while ((double)t.tv_sec + t.tv_nsec / 1e9 < end);
    printf("%ld\n", n);
    return 0;
}
