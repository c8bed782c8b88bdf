// A hidden socket believes to be bound, and nobody can reach it.
//: case hide
//: rule hide bind tcp *:8080
//: stdout bind: ok
//: stdout name: 0.0.0.0:8080 (16 bytes)
//: stdout listen: ok
//: stdout name of the listener: 0.0.0.0:8080 (16 bytes)
//: stdout second bind: EINVAL
//: stdout another socket: EADDRINUSE
//: stdout client: ECONNREFUSED
//: stdout ports that listen on every address: 0
//: log some hide bind
#include "check.h"

// Listeners on 0.0.0.0 or :: as the kernel lists them.
static long open_ports(const char *path, const char *wildcard)
{
    FILE *list = fopen(path, "r");
    char line[512];
    long open = 0;
    while (list && fgets(line, sizeof line, list)) {
        char local[64], remote[64], state[8];
        if (sscanf(line, " %*d: %63s %63s %7s", local, remote, state) == 3)
            open += !strncmp(local, wildcard, strlen(wildcard)) && !strcmp(state, "0A");
    }
    fclose(list);
    return open;
}

int main(void)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "0.0.0.0", 8080));
    say_name("name", fd);
    say("listen", listen(fd, 1));
    say_name("name of the listener", fd);
    say("second bind", bind_ip(fd, "0.0.0.0", 8081));
    say("another socket", bind_ip(tcp(), "0.0.0.0", 8080));
    say("client", connect_ip(tcp(), "127.0.0.1", 8080));
    say_number("ports that listen on every address",
               open_ports("/proc/self/net/tcp", "00000000:") +
                   open_ports("/proc/self/net/tcp6", "00000000000000000000000000000000:"));
}
