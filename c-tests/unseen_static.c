// A program that no preload reaches.
//: driven
#include "check.h"

int main(void)
{
    say("bind", bind_ip(tcp(), "127.0.0.1", 8080));
}
