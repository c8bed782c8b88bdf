// What seccomp filters are made of: what is done about a system call.
#ifndef FILTER_H
#define FILTER_H

#include "check.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#define ON(number, action)                             \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), \
        BPF_STMT(BPF_RET | BPF_K, action)
#define ALLOW(number) ON(number, SECCOMP_RET_ALLOW)

#endif
