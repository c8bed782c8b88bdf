// Two sockets that are bound to one port, in each way that the rules of the kernel
// tell apart: 6,272 pairs of addresses, families and options. Prints what came of
// each bind and listen, and the names. With an argument each pair has a port of its
// own. For c-tests/run/isolate.rs.
//: driven
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static const char *ips[] = {"0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "::ffff:127.0.0.1"};
struct one { int fam, ty, only, ra, rp, listen; const char *ip; };
static int port = 20000;
static int make(const struct one *x, int *error) {
    int fd = socket(x->fam, x->ty, 0), one = 1;
    if (x->ra) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, 4);
    if (x->rp) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, 4);
    if (x->fam == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &x->only, 4);
    struct sockaddr_storage a = {0};
    socklen_t len;
    if (x->fam == AF_INET) {
        struct sockaddr_in *in = (void *)&a;
        in->sin_family = AF_INET; in->sin_port = htons(port);
        inet_pton(AF_INET, x->ip, &in->sin_addr); len = sizeof *in;
    } else {
        struct sockaddr_in6 *in = (void *)&a;
        in->sin6_family = AF_INET6; in->sin6_port = htons(port);
        inet_pton(AF_INET6, x->ip, &in->sin6_addr); len = sizeof *in;
    }
    *error = 0;
    if (bind(fd, (void *)&a, len)) *error = errno;
    else if (x->listen && x->ty == SOCK_STREAM && listen(fd, 5)) *error = 1000 + errno;
    return fd;
}
static void name(int fd, char *to) {
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char ip[64] = "";
    getsockname(fd, (void *)&a, &len);
    if (a.ss_family == AF_INET) inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, ip, 64);
    else inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, ip, 64);
    sprintf(to, "%s:%d", ip, ntohs(((struct sockaddr_in *)&a)->sin_port) != 0);
}
int main(int argc, char **argv) {
    (void)argv;
    int fresh = argc > 1;
    for (int ty = 1; ty <= 2; ty++)
    for (int i = 0; i < 6; i++)
    for (int j = 0; j < 6; j++)
    for (int oi = 0; oi < (i == 3 ? 2 : 1); oi++)
    for (int oj = 0; oj < (j == 3 ? 2 : 1); oj++)
    for (int f = 0; f < 64; f++) {
        struct one x = {i < 3 ? AF_INET : AF_INET6, ty, i == 4 ? 0 : oi, f & 1, f >> 1 & 1, f >> 4 & 1, ips[i]};
        struct one y = {j < 3 ? AF_INET : AF_INET6, ty, j == 4 ? 0 : oj, f >> 2 & 1, f >> 3 & 1, f >> 5 & 1, ips[j]};
        int e1, e2;
        char n1[80], n2[80];
        if (fresh) port = 1025 + (port - 1024) % 30000;
        int a = make(&x, &e1), b = make(&y, &e2);
        name(a, n1); name(b, n2);
        printf("%s %s%s ra%d rp%d l%d, %s%s ra%d rp%d l%d: %d %d %s %s\n", ty == 1 ? "tcp" : "udp", x.ip, x.only ? " only" : "", x.ra, x.rp, x.listen,
               y.ip, y.only ? " only" : "", y.ra, y.rp, y.listen, e1, e2, n1, n2);
        close(a); close(b);
    }
}
