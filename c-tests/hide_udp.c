// A hidden UDP socket.
//: case hide
//: rule hide bind udp *:8080
//: stdout bind: ok
//: stdout name: 127.0.0.1:8080 (16 bytes)
//: stdout somebody reads it: no
#include "check.h"

int main(void)
{
    int fd = udp(), client = udp();
    say("bind", bind_ip(fd, "127.0.0.1", 8080));
    say_name("name", fd);
    must(connect_ip(client, "127.0.0.1", 8080));
    send(client, "x", 1, 0);
    char byte;
    printf("somebody reads it: %s\n", recv(fd, &byte, 1, MSG_DONTWAIT) > 0 ? "yes" : "no");
}
