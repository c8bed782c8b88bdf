// A program without privilege has "port 80".
//: user nobody
//: case move
//: rule move bind tcp *:reserved to *:+10000
//: stdout bind: ok
//: stdout name: 0.0.0.0:80 (16 bytes)
//: stdout really: 0.0.0.0:10080
//: log 1 move bind
#include "check.h"

int main(void)
{
    int fd = tcp();
    say("bind", bind_ip(fd, "0.0.0.0", 80));
    say_name("name", fd);
    say_real_name("really", fd);
}
