// A TCP server moved to a Unix socket still sees the socket that it created:
// its family, and every option as set before and after the bind.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: same
//: log 1 move bind
#include "check.h"

static int fd;

static void get(const char *what, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    if (getsockopt(fd, level, option, &value, &length) < 0)
        say(what, -1);
    else
        printf("%s: %d (%u bytes)\n", what, value, length);
}

static void set(const char *what, int level, int option, int value)
{
    say(what, setsockopt(fd, level, option, &value, sizeof value));
}

static void show(void)
{
    get("SO_DOMAIN", SOL_SOCKET, SO_DOMAIN);
    get("SO_TYPE", SOL_SOCKET, SO_TYPE);
    get("SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL);
    get("SO_ERROR", SOL_SOCKET, SO_ERROR);
    get("SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN);
    get("SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR);
    get("SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT);
    get("SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE);
    get("SO_RCVBUF", SOL_SOCKET, SO_RCVBUF);
    get("TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY);
    get("TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT);
    get("TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN);
    get("TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE);
    get("IP_TOS", IPPROTO_IP, IP_TOS);
    printf("O_NONBLOCK: %d, FD_CLOEXEC: %d\n", !!(fcntl(fd, F_GETFL) & O_NONBLOCK),
           fcntl(fd, F_GETFD));
}

int main(void)
{
    fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    set("set SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1);
    set("set SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, 1);
    set("set SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, 40000);
    set("set TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1);
    set("set TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 77);
    say("bind", bind_ip(fd, "0.0.0.0", 8080));
    show();
    set("set SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1);
    set("set TCP_NODELAY off", IPPROTO_TCP, TCP_NODELAY, 0);
    set("set TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
    set("set IP_TOS", IPPROTO_IP, IP_TOS, 16);
    say("listen", listen(fd, 5));
    show();
    set("an option that there is not", IPPROTO_TCP, 9999, 1);
    say("accept with nobody there", accept(fd, NULL, NULL));
}
