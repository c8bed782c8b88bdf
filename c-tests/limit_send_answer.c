// Limit: the answer to a datagram that a rule sent elsewhere comes from there.
//: case move
//: rule move connect udp 127.0.0.8:9301 to 127.0.0.1:9302
//: stdout sendto: ok
//: stdout the answer is from: 127.0.0.1:9302
#include "check.h"

int main(void)
{
    int client = udp(), servers[2] = {udp(), udp()};
    struct address to = ip("127.0.0.8", 9301), from = {.length = sizeof from.storage};
    char got;
    must(bind_ip(servers[0], "127.0.0.8", 9301));
    must(bind_ip(servers[1], "127.0.0.1", 9302));
    say("sendto", sendto(client, "x", 1, 0, &to.any, to.length));
    struct pollfd wait[2] = {{.fd = servers[0], .events = POLLIN}, {.fd = servers[1], .events = POLLIN}};
    must(poll(wait, 2, -1));
    int server = wait[0].revents ? servers[0] : servers[1];
    must(recvfrom(server, &got, 1, 0, &from.any, &from.length));
    must(sendto(server, "y", 1, 0, &from.any, from.length));
    from.length = sizeof from.storage;
    must(recvfrom(client, &got, 1, 0, &from.any, &from.length));
    printf("the answer is from: %s\n", text(&from));
}
