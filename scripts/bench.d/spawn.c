/* What starting a program costs: alternately starts each of several commands
 * and waits for it.
 *
 *   spawn ROUNDS --- [NAME=VALUE]... PROGRAM ARG... --- [NAME=VALUE]... PROGRAM ...
 *
 * The environment of a command is exactly the settings before it. One line per
 * command: the 10th percentile, the median and the smallest time, in
 * nanoseconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define COMMANDS 8

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int less(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    char **args[COMMANDS], **envs[COMMANDS];
    uint64_t *took[COMMANDS];
    posix_spawn_file_actions_t quiet;
    int commands = 0, i, c, r, rounds;
    if (argc < 4)
        return 2;
    rounds = atoi(argv[1]);
    for (i = 2; i < argc && commands < COMMANDS;) {
        int n = 0;
        i++;
        envs[commands] = calloc((size_t)argc, sizeof(char *));
        while (i < argc && strchr(argv[i], '=') && argv[i][0] != '/' && argv[i][0] != '-')
            envs[commands][n++] = argv[i++];
        args[commands] = calloc((size_t)argc, sizeof(char *));
        for (n = 0; i < argc && strcmp(argv[i], "---"); i++)
            args[commands][n++] = argv[i];
        took[commands] = calloc((size_t)rounds, sizeof(uint64_t));
        commands++;
    }
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    for (r = -2; r < rounds; r++)
        for (c = 0; c < commands; c++) {
            uint64_t start = now();
            pid_t pid;
            int status;
            if (posix_spawn(&pid, args[c][0], &quiet, NULL, args[c], envs[c])) {
                perror(args[c][0]);
                return 1;
            }
            waitpid(pid, &status, 0);
            if (status) {
                fprintf(stderr, "%s: status %x\n", args[c][0], (unsigned)status);
                return 1;
            }
            if (r >= 0)
                took[c][r] = now() - start;
        }
    for (c = 0; c < commands; c++) {
        qsort(took[c], (size_t)rounds, sizeof(uint64_t), less);
        printf("%llu %llu %llu\n", (unsigned long long)took[c][rounds / 10],
               (unsigned long long)took[c][rounds / 2], (unsigned long long)took[c][0]);
    }
    return 0;
}
