// Binds, forks, threads and accepts, beside libraries of others: see
// neighbours.rs.
//: driven
#include "check.h"

static void *thread(void *unused)
{
    int fd = tcp();
    must(bind_ip(fd, "127.0.0.1", 0));
    must(close(fd));
    return unused;
}

static void bind_both(const char *who)
{
    int fd = tcp();
    printf("%s\n", who);
    say("forbidden", bind_ip(fd, "127.0.0.1", 8080));
    say("allowed", bind_ip(fd, "127.0.0.1", 8081));
    say("close", close(fd));
}

int main(void)
{
    bind_both("main");
    pid_t child = must(fork());
    if (child == 0) {
        bind_both("child");
        return 0;
    }
    wait_for(child);
    pthread_t threads[8];
    for (size_t i = 0; i < COUNT(threads); i++)
        must(-pthread_create(&threads[i], NULL, thread, NULL));
    for (size_t i = 0; i < COUNT(threads); i++)
        must(-pthread_join(threads[i], NULL));
    int listener = tcp(), on = 1;
    must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    say("bind", bind_ip(listener, "127.0.0.1", 8082));
    say("listen", listen(listener, 1));
    int client = tcp();
    say("connect", connect_ip(client, "127.0.0.1", 8082));
    int connection = accept(listener, NULL, NULL);
    say("accept", connection);
    close(connection);
    close(client);
    close(listener);
    return 0;
}
