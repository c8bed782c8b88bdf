// Calls a TCP port of 127.0.0.1, says what it sent, and what came back.
//: driven
#include "check.h"

int main(int argc, char **argv)
{
    int fd = tcp();
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (say("connect", connect(fd, (struct sockaddr *)&to, sizeof to)) < 0)
        return 0;
    must(write(fd, "echo", 4));
    must(shutdown(fd, SHUT_WR));
    char back[64];
    int all = 0, n;
    while ((n = must(read(fd, back + all, sizeof back - all))) > 0)
        all += n;
    printf("back: %.*s\n", all, back);
}
