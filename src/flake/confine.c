#include "flake/confine.h"
#include "jail/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif
#define X32_CALLS      0x40000000u
#define WRITING        (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)
#define LOW_WORD(arg)  (offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (arg))
#define JUMP(k_, t, f) ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k_), (t), (f)))
#define LOAD(offset)   ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset)))
#define RETURN(k_)     ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (k_)))
#define REFUSE         RETURN(SECCOMP_RET_ERRNO | EPERM)

/* What a program needs that reads files below open folders, allocates memory and writes to a pipe. */
static const int calls[] = {
    SYS_read,
    SYS_pread64,
    SYS_readv,
    SYS_write,
    SYS_writev,
    SYS_lseek,
    SYS_close,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_getdents64,
    SYS_readlinkat,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fcntl,
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_brk,
    SYS_futex,
    SYS_getrandom,
    SYS_clock_gettime,
    SYS_gettimeofday,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_getpid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getcwd,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_sysinfo,
    SYS_uname,
    SYS_exit,
    SYS_exit_group,
    SYS_restart_syscall,
#ifdef SYS_stat
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_time,
#endif
};

static int apply_filter(void)
{
#ifdef THIS_ARCH
    struct sock_filter f[2 * ARRAY_SIZE(calls) + 16];
    unsigned short n = 0;
    f[n++] = LOAD(offsetof(struct seccomp_data, arch));
    f[n++] = JUMP(THIS_ARCH, 1, 0);
    f[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
    f[n++] = LOAD(offsetof(struct seccomp_data, nr));
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_CALLS, 0, 1);
    f[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
    f[n++] = JUMP(SYS_openat, 0, 4);
    f[n++] = LOAD(LOW_WORD(2));
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, WRITING, 0, 1);
    f[n++] = REFUSE;
    f[n++] = RETURN(SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        f[n++] = JUMP((uint32_t)calls[i], 0, 1);
        f[n++] = RETURN(SECCOMP_RET_ALLOW);
    }
    f[n++] = REFUSE;
    const struct sock_fprog program = {.len = n, .filter = f};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
#else
    return 0;
#endif
}

/* 0 too where the kernel has no Landlock, or it is turned off. */
static int apply_landlock(const char *const *folders, size_t n)
{
    int abi, rules = landlock_open(false, &abi), r = 0;
    for (size_t i = 0; rules >= 0 && r == 0 && i < n; i++)
        r = landlock_path(rules, abi, folders[i], LANDLOCK_READ);
    if (rules >= 0 && r == 0)
        r = landlock_enforce(rules);
    if (rules >= 0)
        close(rules);
    return r;
}

int confine_reader(const char *const *folders, size_t n)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    int r = apply_landlock(folders, n);
    return r < 0 ? r : apply_filter();
}
