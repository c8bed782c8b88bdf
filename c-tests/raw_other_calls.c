// syscall() with numbers that are nobody's business, and with six arguments.
//: unfiltered makes a call with the number -1, which means something else to a filter
//: case deny
//: rule deny bind any *
//: same
#include "check.h"

int main(void)
{
    say("getpid", syscall(SYS_getpid) == getpid() ? 0 : -1);
    say("no such call", syscall(100000L));
    say("negative", syscall(-1L));
    char *page = (char *)syscall(SYS_mmap, NULL, 4096L, (long)(PROT_READ | PROT_WRITE),
                                 (long)(MAP_PRIVATE | MAP_ANONYMOUS), -1L, 0L);
    must(page == MAP_FAILED ? -1 : 0);
    page[4095] = 1;
    say("mmap", 0);
    int file = must(memfd_create("file", 0));
    must(ftruncate(file, 8192));
    must(pwrite(file, "x", 1, 4096));
    page = (char *)syscall(SYS_mmap, NULL, 4096L, (long)PROT_READ, (long)MAP_SHARED, (long)file, 4096L);
    say_number("the sixth argument counts", page[0]);
    say("close", syscall(SYS_close, file));
    say("close again", syscall(SYS_close, file));
    pid_t child = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    if (child == 0)
        _exit(0);
    wait_for(child);
    say("clone", 0);
}
