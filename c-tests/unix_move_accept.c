// Sockets accepted by a server that was moved to a Unix socket are TCP sockets
// as far as it can tell, in children and after fd passing as well.
//: case move
//: rule move bind tcp *:8080 to unix:$DIR/s
//: args $DIR/s
//: same
//: log 1 move bind
#include "check.h"

static void tell(int fd)
{
    int value = 1;
    socklen_t length = sizeof value;
    must(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length));
    say_number("SO_DOMAIN", value);
    must(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &length));
    say_number("SO_PROTOCOL", value);
    say_name("name", fd);
    struct address peer = {.length = sizeof peer.storage};
    say("getpeername", getpeername(fd, &peer.any, &peer.length));
    printf("peer: family %d, %u bytes, %s\n", peer.any.sa_family, peer.length,
           inet_ntoa(peer.in.sin_addr));
}

int main(int argc, char **argv)
{
    int listener = tcp(), on = 1;
    say("bind", bind_ip(listener, "127.0.0.1", 8080));
    say("listen", listen(listener, 5));
    for (int round = 0; round < 3; round++) {
        int client = client_of(8080, argc > 1 ? argv[1] : NULL);
        struct address peer = {.length = sizeof peer.storage}, again = peer;
        int server = round == 0 ? accept(listener, &peer.any, &peer.length)
                   : round == 1 ? accept4(listener, &peer.any, &peer.length, SOCK_NONBLOCK)
                                : accept(listener, NULL, NULL);
        say("accept", server);
        if (round < 2) {
            must(getpeername(server, &again.any, &again.length));
            printf("accept and getpeername agree: %s\n",
                   peer.length == again.length && !memcmp(&peer, &again, peer.length) ? "yes"
                                                                                     : "no");
            printf("the peer has a port: %s\n", peer.in.sin_port ? "yes" : "no");
        }
        tell(server);
        say("TCP_NODELAY", setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
        struct tcp_info info;
        socklen_t length = sizeof info;
        say("TCP_INFO", getsockopt(server, IPPROTO_TCP, TCP_INFO, &info, &length));
        must(write(client, "hello", 5));
        char buffer[16] = {0};
        struct iovec io = {buffer, sizeof buffer};
        struct address from = {.length = 0};
        struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from.storage,
                           .msg_iov = &io, .msg_iovlen = 1};
        must(recvmsg(server, &m, 0));
        printf("received: %s, source: %u bytes\n", buffer, m.msg_namelen);
        must(send(server, "bye", 3, MSG_NOSIGNAL));
        must(shutdown(server, SHUT_WR));
        memset(buffer, 0, sizeof buffer);
        must(read(client, buffer, sizeof buffer));
        printf("answer: %s\n", buffer);
        pid_t child = must(fork());
        if (child == 0) {
            tell(server);
            _exit(0);
        }
        wait_for(child);
        int pair[2];
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        send_fd(pair[0], server);
        tell(receive_fd(pair[1]));
        close(client);
        close(server);
    }
}
