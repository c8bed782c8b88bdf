// A client reaches a moved server where it really is; the accepted socket
// believes to be where the server believes to be. In a child and after fd
// passing as well.
//: case move
//: rule move bind tcp *:8080 to loopback:18080
//: args 18080
//: same
//: log 1 move bind
//: case port only
//: rule move bind tcp *:8080 to *:18080
//: args 18080
//: same
#include "check.h"

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 8080;
    int listener = tcp();
    say("bind", bind_ip(listener, "127.0.0.1", 8080));
    say("listen", listen(listener, 5));

    for (int round = 0; round < 3; round++) {
        int client = tcp();
        say("connect", connect_ip(client, "127.0.0.1", port));
        struct address peer = {.length = sizeof peer.storage};
        int server = round == 0 ? accept(listener, &peer.any, &peer.length)
                   : round == 1 ? accept4(listener, &peer.any, &peer.length, SOCK_CLOEXEC)
                                : accept(listener, NULL, NULL);
        say("accept", server);
        say_name("name of the accepted socket", server);
        if (round < 2)
            printf("the peer's port is the client's: %s\n",
                   ntohs(peer.in.sin_port) == port_of(client) ? "yes" : "no");
        must(getpeername(server, &peer.any, (peer.length = sizeof peer.storage, &peer.length)));
        printf("getpeername agrees: %s\n",
               ntohs(peer.in.sin_port) == port_of(client) ? "yes" : "no");
        must(write(client, "hello", 5));
        char buffer[8] = {0};
        must(read(server, buffer, sizeof buffer));
        printf("received: %s\n", buffer);

        pid_t child = must(fork());
        if (child == 0) {
            say_name("in a child", server);
            say_name("in a child, a duplicate", dup(server));
            _exit(0);
        }
        wait_for(child);
        int pair[2];
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        send_fd(pair[0], server);
        say_name("passed", receive_fd(pair[1]));
        close(pair[0]);
        close(pair[1]);
        close(server);
        close(client);
    }
}
