// exec_later PID PROGRAM [ARGUMENT]...: becomes the program when process PID
// is gone, and a launcher that does not wait for us has had time to end.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    while (kill(atoi(argv[1]), 0) == 0 || errno != ESRCH)
        usleep(1000);
    usleep(50000);
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 1;
}
