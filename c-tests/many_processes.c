// So many processes, all at one time until SIGTERM; each binds once. With a
// second argument they are woken at once and each binds again.
//: driven
#include "check.h"

int main(int argc, char **argv)
{
    sigset_t told;
    int got;
    sigemptyset(&told);
    sigaddset(&told, SIGTERM);
    must(sigprocmask(SIG_BLOCK, &told, NULL));
    int many = argc > 1 ? atoi(argv[1]) : 0, hold[2], done[2];
    must(pipe(hold));
    must(pipe(done));
    for (int i = 0; i < many; i++) {
        pid_t pid = must(fork());
        if (pid == 0) {
            char byte = 0;
            close(hold[1]);
            bind_ip(udp(), "127.0.0.1", 0);
            if (write(done[1], &byte, 1) != 1 || read(hold[0], &byte, 1) != 0)
                _exit(1);
            if (argc > 2)
                bind_ip(udp(), "127.0.0.1", 0);
            _exit(0);
        }
        // One after the other.
        char byte;
        if (read(done[0], &byte, 1) != 1)
            return 1;
    }
    printf("%d processes\n", many);
    fflush(stdout);
    if (argc == 2)
        sigwait(&told, &got);
    close(hold[1]);
    while (wait(0) > 0)
        ;
}
