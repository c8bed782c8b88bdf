// A client of the run that calls the address which a server asked for reaches it
// where a rule moved it to, and is told what it would be told without the rule.
//: case followed
//: rule move bind {tcp,udp} *:8080 to *:+10000 followed
//: same
#include "check.h"

static int serve(int fd, const char *host)
{
    must(bind_ip(fd, host, 8080));
    if (listen(fd, 5) < 0 && errno != EOPNOTSUPP)
        must(-1);
    return fd;
}

static void say_peer(const char *what, int fd)
{
    struct address a = {.length = sizeof a.storage};
    if (say(what, getpeername(fd, &a.any, &a.length)) == 0)
        printf("  %s (%u bytes)\n", text(&a), a.length);
}

// Connects, and is accepted.
static void call(const char *what, int server, int client, const char *host)
{
    if (say(what, connect_ip(client, host, 8080)) < 0)
        return;
    say_peer("  client's peer", client);
    struct address a = {.length = sizeof a.storage};
    int served = must(accept(server, &a.any, &a.length));
    char byte = 0;
    must(write(served, "x", 1));
    must(read(client, &byte, 1));
    printf("  got %c\n", byte);
    close(client);
    close(served);
}

int main(void)
{
    int server = serve(tcp(), "0.0.0.0");
    call("wildcard", server, tcp(), "127.0.0.1");
    call("wildcard at 127.0.0.2", server, tcp(), "127.0.0.2");
    call("called by the wildcard", server, tcp(), "0.0.0.0");
    call("by a mapped address", server, tcp6(), "::ffff:127.0.0.1");
    call("another family", server, tcp6(), "::1");

    // Not blocking.
    int client = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int result = connect_ip(client, "127.0.0.1", 8080);
    if (result < 0 && errno != EINPROGRESS)
        say("nonblocking", -1);
    struct pollfd p = {.fd = client, .events = POLLOUT};
    must(poll(&p, 1, -1));
    int error = -1;
    socklen_t n = sizeof error;
    must(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &n));
    say_number("nonblocking, SO_ERROR", error);
    say_peer("nonblocking", client);
    close(client);
    close(accept(server, NULL, NULL));

    // A child of the same run.
    fflush(stdout);
    if (fork() == 0) {
        say("a child", connect_ip(tcp(), "127.0.0.1", 8080));
        _exit(0);
    }
    wait(NULL);
    close(server);
    say("closed", connect_ip(tcp(), "127.0.0.1", 8080));

    int one = 1;
    server = tcp6();
    must(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    serve(server, "::");
    call("dual stack", server, tcp(), "127.0.0.1");
    call("dual stack, IPv6", server, tcp6(), "::1");
    call("dual stack, the wildcard", server, tcp6(), "::");
    close(server);

    server = tcp();
    must(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    serve(server, "127.0.0.3");
    call("one address", server, tcp(), "127.0.0.3");
    call("not that one", server, tcp(), "127.0.0.1");

    int datagrams = serve(udp(), "0.0.0.0");
    int sender = udp();
    struct address to = ip("127.0.0.1", 8080);
    must(sendto(sender, "a", 1, 0, &to.any, to.length));
    struct iovec part = {.iov_base = "b", .iov_len = 1};
    struct msghdr message = {
        .msg_name = &to.any, .msg_namelen = to.length, .msg_iov = &part, .msg_iovlen = 1};
    must(sendmsg(sender, &message, 0));
    int connected = udp();
    must(connect_ip(connected, "127.0.0.1", 8080));
    say_peer("connected udp", connected);
    must(send(connected, "c", 1, 0));
    char got[4] = "";
    for (int i = 0; i < 3; i++)
        must(recv(datagrams, got + i, 1, 0));
    printf("datagrams: %s\n", got);
    say("an address that is not", connect_ip(tcp(), "127.0.0.1", 8081));
}
