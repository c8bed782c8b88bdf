// A moved UDP socket: its name, what it receives, and to whom it answers.
//: case move
//: rule move bind udp *:8080 to loopback:18080
//: args 18080
//: same
//: log 1 move bind
#include "check.h"

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 8080;
    int server = udp(), client = udp();
    say("bind", bind_ip(server, "127.0.0.1", 8080));
    say_name("name", server);
    must(connect_ip(client, "127.0.0.1", port));
    must(send(client, "ping", 4, 0));
    struct address from = {.length = sizeof from.storage};
    char buffer[16] = {0};
    say("recvfrom", recvfrom(server, buffer, sizeof buffer, 0, &from.any, &from.length));
    printf("received: %s, from the client: %s\n", buffer,
           ntohs(from.in.sin_port) == port_of(client) ? "yes" : "no");
    say("answer", sendto(server, "pong", 4, 0, &from.any, from.length));
    must(recv(client, buffer, sizeof buffer, 0));
    printf("answer: %s\n", buffer);
}
