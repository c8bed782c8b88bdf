// Says how many interrupts came before there was a second of quiet. SIGRTMIN is
// one too: of those, two that come at once are two.
//: driven
#include "check.h"

static volatile sig_atomic_t count;

static void on_interrupt(int signal)
{
    (void)signal;
    count++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    must(sigaction(SIGINT, &action, NULL));
    must(sigaction(SIGRTMIN, &action, NULL));
    printf("ready\n");
    fflush(stdout);
    while (count == 0)
        poll(NULL, 0, 10);
    for (int i = 0; i < 100; i++)
        poll(NULL, 0, 10);
    say_number("interrupts", count);
}
