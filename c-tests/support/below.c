// Runs a program as a container runs it: under a seccomp filter that was there
// before, with the privileges that are left.
//
//     below open UID PROGRAM [ARGUMENT…]     a filter that allows everything
//     below docker UID PROGRAM [ARGUMENT…]   what Docker's default profile allows
//     below novsock UID PROGRAM [ARGUMENT…]  everything but AF_VSOCK, as a kernel
//                                            without the family
//     below contain open|docker|novsock PROGRAM [ARGUMENT…]
//
// With `contain` it is this process that is under the filter, as the first one of
// a container is, and the program, its child, is not: a harness that starts
// others below a filter of the same kind.
//
// Docker's profile (github.com/moby/profiles) is a list of what may be called;
// this is the rest, which comes to the same: the calls that it refuses, the
// ones of which it looks at an argument, and those that are younger than it.
// root keeps the capabilities that a container has by default, and becomes the
// user only after the filter is there; anybody else gets no_new_privs, without
// which no filter can be installed.
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "which architecture?"
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// EPERM, whatever the arguments.
static const int refused[] = {
    // name spaces and mounts
    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_move_mount, SYS_open_tree,
    SYS_mount_setattr, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_quotactl, SYS_quotactl_fd,
    // other processes
    SYS_kcmp, SYS_pidfd_getfd, SYS_process_madvise, SYS_migrate_pages, SYS_move_pages,
    SYS_get_mempolicy, SYS_set_mempolicy, SYS_set_mempolicy_home_node, SYS_mbind,
    // large parts of the kernel
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_fanotify_init, SYS_lookup_dcookie,
    SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_add_key, SYS_request_key, SYS_keyctl,
    // the machine
    SYS_acct, SYS_clock_settime, SYS_settimeofday, SYS_sethostname, SYS_setdomainname, SYS_syslog,
    SYS_reboot, SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module,
    SYS_delete_module, SYS_swapon, SYS_swapoff, SYS_vhangup, SYS_nfsservctl,
#if defined(__x86_64__)
    SYS_open_by_handle_at, SYS_iopl, SYS_ioperm, SYS_sysfs, SYS_ustat, SYS_uselib, SYS__sysctl,
    SYS_create_module, SYS_query_module, SYS_get_kernel_syms, SYS_getpmsg, SYS_putpmsg,
    SYS_afs_syscall, SYS_tuxcall, SYS_security, SYS_vserver,
#endif
};

enum {
    NEWEST = 466, // removexattrat(2): what the profile does not know is ENOSYS
    CLONE_NAMESPACES = 0x7e020000,
    FAMILY_ALG = 38,
    FAMILY_VSOCK = 40,
};

static struct sock_filter filter[256];
static unsigned short length;

static void add(unsigned short code, unsigned k, unsigned char yes, unsigned char no)
{
    filter[length++] = (struct sock_filter){code, yes, no, k};
}

static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0); }
static void answer(unsigned action) { add(BPF_RET | BPF_K, action, 0, 0); }
static void fail(int error) { answer(SECCOMP_RET_ERRNO | (unsigned)error); }

// The next instructions are skipped unless the value is this one.
static void unless_skip(unsigned value, unsigned char instructions)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, instructions);
}

static void docker(void)
{
    const size_t first = offsetof(struct seccomp_data, args[0]);
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    fail(EPERM);
    load(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT(refused); i++) {
        unless_skip((unsigned)refused[i], 1);
        fail(EPERM);
    }
    add(BPF_JMP | BPF_JGT | BPF_K, NEWEST, 0, 1);
    fail(ENOSYS);
    // Its flags lie in memory, where a filter cannot look.
    unless_skip(SYS_clone3, 1);
    fail(ENOSYS);
    unless_skip(SYS_clone, 4);
    load(first);
    add(BPF_JMP | BPF_JSET | BPF_K, CLONE_NAMESPACES, 0, 1);
    fail(EPERM);
    answer(SECCOMP_RET_ALLOW);
    unless_skip(SYS_socket, 5);
    load(first);
    add(BPF_JMP | BPF_JEQ | BPF_K, FAMILY_ALG, 1, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, FAMILY_VSOCK, 0, 1);
    fail(EPERM);
    answer(SECCOMP_RET_ALLOW);
    unless_skip(SYS_personality, 8);
    load(first);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0x8, 3, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0x20000, 2, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0x20008, 1, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffff, 0, 1);
    answer(SECCOMP_RET_ALLOW);
    fail(EPERM);
}

static void novsock(void)
{
    load(offsetof(struct seccomp_data, nr));
    unless_skip(SYS_socket, 3);
    load(offsetof(struct seccomp_data, args[0]));
    unless_skip(FAMILY_VSOCK, 1);
    fail(EAFNOSUPPORT);
}

static int is_kept(int capability)
{
    static const int kept[] = {
        CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_NET_RAW, CAP_SETGID,
        CAP_SETUID, CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_KILL,
        CAP_AUDIT_WRITE,
    };
    for (size_t i = 0; i < COUNT(kept); i++)
        if (kept[i] == capability)
            return 1;
    return 0;
}

static int complain(const char *what)
{
    fprintf(stderr, "below: %s: %s\n", what, strerror(errno));
    return 125;
}

// 0 if the filter is there.
static int install(const char *which)
{
    if (strcmp(which, "docker") == 0)
        docker();
    else if (strcmp(which, "novsock") == 0)
        novsock();
    else if (strcmp(which, "open") != 0)
        return complain("open, docker or novsock");
    answer(SECCOMP_RET_ALLOW);
    struct sock_fprog program = {length, filter};
    if (geteuid() != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return complain("no_new_privs");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0))
        return complain("seccomp");
    return 0;
}

static int contain(const char *which, char **program)
{
    int filtered[2];
    if (pipe(filtered))
        return complain("pipe");
    pid_t child = fork();
    if (child < 0)
        return complain("fork");
    if (child == 0) {
        char byte;
        close(filtered[1]);
        if (read(filtered[0], &byte, 1) != 1)
            _exit(125);
        close(filtered[0]);
        execvp(program[0], program);
        _exit(complain(program[0]));
    }
    close(filtered[0]);
    if (install(which) || write(filtered[1], "", 1) != 1)
        return 125;
    close(filtered[1]);
    for (;;) {
        int status;
        pid_t ended = wait(&status);
        if (ended == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno != EINTR)
            return complain("wait");
    }
}

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "contain") == 0)
        return contain(argv[2], argv + 3);
    if (argc < 4)
        return complain("open|docker|novsock UID PROGRAM [ARGUMENT…]");
    if (install(argv[1]))
        return 125;
    if (geteuid() == 0 && strcmp(argv[1], "docker") == 0)
        for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
            if (!is_kept(capability) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
                return complain("the bounding set");
    uid_t user = (uid_t)atoi(argv[2]);
    if (user != geteuid() && (setgroups(0, NULL) || setgid(user) || setuid(user)))
        return complain("the user");
    execvp(argv[3], argv + 3);
    complain(argv[3]);
    return errno == ENOENT ? 127 : 126;
}
