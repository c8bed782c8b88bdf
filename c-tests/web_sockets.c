// Binds and listens as a web server of Debian's does: on port 80 of all IPv4
// addresses, and of all IPv6 addresses by a second socket. Then it waits.
//: driven
#include "check.h"

int main(void)
{
    int fd = tcp(), fd6 = tcp6(), on = 1;
    must(setsockopt(fd6, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    must(bind_ip(fd, "0.0.0.0", 80));
    must(bind_ip(fd6, "::", 80));
    must(listen(fd, 1));
    must(listen(fd6, 1));
    pause();
}
