// Sixty-four threads, each of which binds ten thousand times: once with
// success, and then in vain. Says for each how many.
//
//     records_threads [BINDS]
//: driven
#include "check.h"

enum { THREADS = 64 };

static int binds = 10000;

static void *thread(void *result)
{
    int fd = tcp();
    for (int n = 0; n < binds; n++) {
        if ((bind_ip(fd, "127.0.0.1", 0) == 0) != (n == 0))
            abort();
    }
    close(fd);
    *(pid_t *)result = gettid();
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        binds = atoi(argv[1]);
    pthread_t threads[THREADS];
    pid_t tids[THREADS];
    for (int i = 0; i < THREADS; i++)
        must(pthread_create(&threads[i], NULL, thread, &tids[i]) ? -1 : 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        printf("%d binds %d\n", tids[i], binds);
    }
}
