// Every hooked call, each argument in turn as it should be and in every way
// that it should not: pointers to nothing, to the last bytes of a page, across
// its end; lengths too short, too long, negative; descriptors of something
// else. One line for each: what the call answered, errno, how much it wrote.
//
//     every_hook list             the calls that have a row in the table
//     every_hook calls [WHERE]    all rows but those that start programs;
//                                 the server on port 9999 is at WHERE
//     every_hook programs         those
//: driven
#include "every_hook_rows.h"
#include <setjmp.h>
#include <sys/resource.h>

// --- one call --------------------------------------------------------------

static struct answer {
    int done, error, spawned;
    long value;
} *answer;

static sigjmp_buf crashed;

static void on_crash(int signal) { siglongjmp(crashed, signal); }

typedef long (*six)(long, long, long, long, long, long);

static void call(int raw, const long *a)
{
    errno = 4242;
    long value;
    if (raw)
        value = syscall(current->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    else
        value = ((six)current->hook)(a[0], a[1], a[2], a[3], a[4], a[5]);
    answer->error = errno;
    answer->value = raw || current->answer == A_LONG ? value
                    : current->answer == AN_INT ? (int)value : 0;
    answer->done = 1;
}

static void call_in_child(int raw, const long *a)
{
    pid_t child = must(fork());
    int status;
    if (child == 0) {
        static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL};
        for (unsigned i = 0; i < COUNT(deadly); i++)
            signal(deadly[i], SIG_DFL);
        if (current->arguments == prctl_ || current->arguments == seccomp_)
            must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        call(raw, a);
        if (current->number == SYS_getppid)
            answer->value = answer->value > 0;
        if (current->arguments == posix_spawn_ && wait(&status) > 0)
            answer->spawned = 1 + status;
        _exit(0);
    }
    must(waitpid(child, &status, 0));
    if (!answer->done)
        mention(WIFEXITED(status) ? "replaced: exit %d" : "signal %d",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static void one(int raw, int first_free)
{
    long a[6] = {0};
    char said[300];
    knob_count = areas_used = tellings = 0;
    told_length = NULL;
    what[0] = 0;
    memset(answer, 0, sizeof *answer);
    unlink("socket");
    current->arguments(a);
    if (!what[0])
        mention("as it should be");
    size_t arguments_told = strlen(what);
    int n = snprintf(said, sizeof said, "%s%s %d %d: %s: ", raw ? "syscall " : "", current->name,
                     current->family, current->type, what);
    if (current->where != HERE) {
        call_in_child(raw, a);
    } else {
        int signal = sigsetjmp(crashed, 1);
        if (signal == 0)
            call(raw, a);
        else
            mention("signal %d", signal);
    }
    if (!answer->done) {
        n += snprintf(said + n, sizeof said - (size_t)n, "%s", what + arguments_told + 2);
    } else if (answer->value == -1) {
        const char *name = strerrorname_np(answer->error);
        n += snprintf(said + n, sizeof said - (size_t)n, "%s", name ? name : "an unknown errno");
    } else {
        n += snprintf(said + n, sizeof said - (size_t)n, "%ld, errno %s", answer->value,
                      answer->error == 4242 ? "kept" : strerrorname_np(answer->error));
    }
    for (int i = 0; i < tellings && current->where == HERE; i++) {
        char *end = told[i].end;
        while (end > told[i].from && (unsigned char)end[-1] == FILLED)
            end--;
        n += snprintf(said + n, sizeof said - (size_t)n, ", %ld written", (long)(end - told[i].from));
    }
    // What is told of a call that failed differs from kernel to kernel.
    if (told_length && answer->done && answer->value != -1) {
        uint32_t value;
        memcpy(&value, told_length, sizeof value);
        n += snprintf(said + n, sizeof said - (size_t)n, ", length %u", value);
    }
    if (answer->spawned)
        snprintf(said + n, sizeof said - (size_t)n, ", status %d", answer->spawned - 1);
    puts(said);
    close_range((unsigned)first_free, ~0U, 0);
    for (int fd; (fd = accept(other_listener, NULL, NULL)) >= 0;)
        close(fd);
    for (int fd; (fd = accept(unix_listener, NULL, NULL)) >= 0;)
        close(fd);
}

static void every_turn(int raw, int first_free)
{
    memset(chosen, 0, sizeof chosen);
    one(raw, first_free);
    int count = knob_count;
    for (int k = 0; k < count; k++) {
        int settings = knobs[k].settings, pairs = knobs[k].pairs;
        for (chosen[k] = 1; chosen[k] < settings; chosen[k]++) {
            one(raw, first_free);
            for (int back = 1; back <= 2; back++) {
                if (!(pairs & back))
                    continue;
                int other = k - back, others = knobs[other].settings;
                for (chosen[other] = 1; chosen[other] < others; chosen[other]++)
                    one(raw, first_free);
                chosen[other] = 0;
            }
        }
        chosen[k] = 0;
    }
}

static void prepare(void)
{
    static char stack[65536];
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL};
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_NODEFER};
    struct rlimit none = {0, 0};
    must(setrlimit(RLIMIT_CORE, &none));
    must(sigaltstack(&alternate, NULL));
    for (unsigned i = 0; i < COUNT(deadly); i++)
        must(sigaction(deadly[i], &action, NULL));
    signal(SIGPIPE, SIG_IGN);
    prepare_areas();
    answer = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(answer == MAP_FAILED ? -1 : 0);

    in4 = ip("127.0.0.1", 8080);
    in6 = ip("::1", 8080);
    other_in4 = ip("127.0.0.1", 9998);
    un.un.sun_family = un_listener.un.sun_family = AF_UNIX;
    strcpy(un.un.sun_path, "socket");
    un.length = offsetof(struct sockaddr_un, sun_path) + sizeof "socket";
    strcpy(un_listener.un.sun_path, "listener");
    un_listener.length = offsetof(struct sockaddr_un, sun_path) + sizeof "listener";

    int pipes[2];
    must(pipe(pipes));
    pipe_end = pipes[0];
    path_only = must(open(".", O_PATH));
    poller = must(epoll_create1(0));
    listener = tcp();
    must(bind_ip(listener, "127.0.0.1", 9999));
    must(listen(listener, 64));
    client_of(9999, server);
    connected = must(accept(listener, NULL, NULL));
    other_listener = tcp();
    must(bind(other_listener, &other_in4.any, other_in4.length));
    must(listen(other_listener, 64));
    unix_listener = must(socket(AF_UNIX, SOCK_STREAM, 0));
    must(bind(unix_listener, &un_listener.any, un_listener.length));
    must(listen(unix_listener, 64));
    int listeners[] = {listener, other_listener, unix_listener};
    for (unsigned i = 0; i < COUNT(listeners); i++)
        must(fcntl(listeners[i], F_SETFL, O_NONBLOCK));
}

int main(int argc, char **argv)
{
    // What an exec row started.
    if (argc < 2)
        return 42;
    if (strcmp(argv[1], "list") == 0) {
        for (unsigned i = 0; i < COUNT(rows); i++)
            puts(rows[i].name);
        return 0;
    }
    int programs = strcmp(argv[1], "programs") == 0;
    server = argc > 2 ? argv[2] : NULL;
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    prepare();
    int first_free = must(dup(0));
    for (unsigned i = 0; i < COUNT(rows); i++) {
        current = &rows[i];
        if ((current->where == PROGRAM) != programs)
            continue;
        if (current->hook)
            every_turn(0, first_free);
        if (current->number)
            every_turn(1, first_free);
    }
}
