/*
 * The system calls that a VMM, a network process or a supervisor may use: an allow-list, the same for the whole of its
 * life. That of the first two is in force before they are executed (their own filter, where they have one, comes on top
 * and takes execve away). What is not listed gives ENOSYS, so that a library falls back as on an older kernel, and what
 * would begin a way out gives EPERM. Linux: seccomp(2), Documentation/userspace-api/seccomp_filter.rst.
 */
#include "jail/landlock.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define NAMESPACES                                                                                                     \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

static const uint16_t allowed[] = {
    /* files and memory */
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_preadv,
    SYS_pwritev,
    SYS_close,
    SYS_close_range,
    SYS_openat,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_lseek,
    SYS_fcntl,
    SYS_flock,
    SYS_fallocate,
    SYS_ftruncate,
    SYS_fsync,
    SYS_fdatasync,
    SYS_sync_file_range,
    SYS_faccessat,
    SYS_dup,
    SYS_dup3,
    SYS_pipe2,
    SYS_getdents64,
    SYS_readlinkat,
    SYS_getcwd,
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_msync,
    SYS_mincore,
    SYS_mlock,
    SYS_munlock,
    SYS_brk,
    SYS_copy_file_range,
    SYS_fadvise64,
    SYS_memfd_create,
    SYS_umask,
    SYS_membarrier,
    /* waiting and time */
    SYS_ppoll,
    SYS_pselect6,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_eventfd2,
    SYS_signalfd4,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_timer_delete,
    SYS_futex,
    SYS_getitimer,
    SYS_setitimer,
    /* this process, its threads and signals */
    SYS_exit,
    SYS_exit_group,
    SYS_wait4,
    SYS_getpid,
    SYS_getppid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getgroups,
    SYS_getresuid,
    SYS_getresgid,
    SYS_getpgid,
    SYS_getsid,
    SYS_capget,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend,
    SYS_rt_sigpending,
    SYS_sigaltstack,
    SYS_restart_syscall,
    SYS_kill,
    SYS_tgkill,
    SYS_tkill,
    SYS_set_tid_address,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_setaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_setscheduler,
    SYS_setpriority,
    SYS_getpriority,
    SYS_prlimit64,
    SYS_getrlimit,
    SYS_getrusage,
    SYS_times,
    SYS_uname,
    SYS_sysinfo,
    SYS_getcpu,
    SYS_getrandom,
    SYS_prctl,
    SYS_seccomp,
    SYS_setsid,
    /* sockets: those that were connected before */
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_sendto,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_recvmmsg,
    SYS_shutdown,
#ifdef SYS_rseq
    SYS_rseq,
#endif
#if defined(__x86_64__)
    SYS_arch_prctl,
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_poll,
    SYS_select,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_pipe,
    SYS_dup2,
    SYS_getdents,
    SYS_time,
    SYS_epoll_create,
    SYS_alarm,
    SYS_getpgrp,
    SYS_pause,
#endif
};

/* What some roles may and others not: these are told so plainly. A supervisor starts nothing (the launcher does) and
 * connects to no socket, a network process listens nowhere, a VMM has no network at all, and no sockets but those that
 * were connected before, unless it is of the kind that makes its own. */
#define VMMS      (1u << FILTER_VMM | 1u << FILTER_VMM_SOCKETS)
#define LISTENERS (1u << FILTER_VMM_SOCKETS | 1u << FILTER_SUPERVISOR)

static const struct {
    uint16_t nr;
    unsigned roles; /* bits: 1 << enum filter_role */
} allowed_some[] = {
    {SYS_execve, VMMS | 1u << FILTER_NETWORK},
    {SYS_connect, 1u << FILTER_VMM_SOCKETS | 1u << FILTER_NETWORK},
    {SYS_bind, 1u << FILTER_VMM_SOCKETS | 1u << FILTER_NETWORK | 1u << FILTER_SUPERVISOR},
    {SYS_listen, LISTENERS},
    {SYS_accept, LISTENERS},
    {SYS_accept4, LISTENERS},
};

/* A supervisor keeps files. */
static const uint16_t allowed_supervisor[] = {
    SYS_unlinkat,
    SYS_mkdirat,
    SYS_renameat,
    SYS_renameat2,
    SYS_linkat,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_utimensat,
    SYS_waitid,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_openat2,
    SYS_faccessat2,
#if defined(__x86_64__)
    SYS_unlink,
    SYS_mkdir,
    SYS_rename,
    SYS_rmdir,
    SYS_link,
    SYS_chmod,
#endif
};

/* Tried and refused: told so plainly, as a program expects it. */
static const uint16_t refused[] = {
    SYS_ptrace,     SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount,       SYS_umount2,
    SYS_pivot_root, SYS_chroot,           SYS_unshare,           SYS_setns,       SYS_bpf,
    SYS_keyctl,     SYS_add_key,          SYS_execveat,          SYS_personality, SYS_unlinkat,
    SYS_mkdirat,    SYS_linkat,           SYS_symlinkat,         SYS_fchmodat,    SYS_fchownat,
    SYS_fchmod,     SYS_fchown,           SYS_mknodat,
};

#define MAX_STEPS 512
struct program {
    struct sock_filter steps[MAX_STEPS];
    unsigned short n;
};

static void step(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    if (p->n < MAX_STEPS)
        p->steps[p->n++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

static void load(struct program *p, uint32_t offset)
{
    step(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void give(struct program *p, uint32_t what)
{
    step(p, BPF_RET | BPF_K, what, 0, 0);
}

static void when(struct program *p, uint32_t nr, uint32_t what)
{
    step(p, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1);
    give(p, what);
}

#define DENY         (SECCOMP_RET_ERRNO | EPERM)
#define ABSENT       (SECCOMP_RET_ERRNO | ENOSYS)
#define ARGUMENT(i)  (offsetof(struct seccomp_data, args) + 8 * (i))
#define SOCKET_TYPES 0xfu /* without SOCK_NONBLOCK and SOCK_CLOEXEC */
#define NUMBER       offsetof(struct seccomp_data, nr)

/* The steps of a call whose arguments decide, each way through which returns: begin, and end with what begin gave. */
static unsigned short begin_call(struct program *p, uint32_t nr)
{
    step(p, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 0);
    return (unsigned short)(p->n - 1);
}

static void end_call(struct program *p, unsigned short begun)
{
    p->steps[begun].jf = (uint8_t)(p->n - begun - 1);
}

/* No new namespaces, and of all but a VMM threads alone. */
static void with_clone(struct program *p, enum filter_role role)
{
    unsigned short begun = begin_call(p, SYS_clone);
    load(p, ARGUMENT(0));
    step(p, BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1);
    give(p, DENY);
    step(p, BPF_JMP | BPF_JSET | BPF_K, VMMS >> role & 1 ? ~0u : CLONE_THREAD, 1, 0);
    give(p, DENY);
    give(p, SECCOMP_RET_ALLOW);
    end_call(p, begun);
}

/*
 * A network process makes the Internet's sockets. With one of Unix' family, other than a connected pair, whatever
 * listens on the host could be spoken to, because Landlock does not cover sockets in the file system; a datagram socket
 * reaches them without connect(2). So neither it nor a VMM makes one, a supervisor (which may not connect) stream
 * sockets only. So does a VMM that makes its own: in the
 * jail's namespaces it sees none of the host's.
 */
static void with_sockets(struct program *p, enum filter_role role)
{
    static const uint32_t calls[] = {SYS_socket, SYS_socketpair};
    for (size_t i = 0; i < 2; i++) {
        unsigned short begun = begin_call(p, calls[i]);
        load(p, ARGUMENT(0));
        if (calls[i] == SYS_socket && !(LISTENERS >> role & 1)) {
            when(p, AF_INET, role == FILTER_NETWORK ? SECCOMP_RET_ALLOW : DENY);
            when(p, AF_INET6, role == FILTER_NETWORK ? SECCOMP_RET_ALLOW : DENY);
            give(p, DENY);
        } else {
            step(p, BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0);
            give(p, DENY);
            load(p, ARGUMENT(1));
            step(p, BPF_ALU | BPF_AND | BPF_K, SOCKET_TYPES, 0, 0);
            when(p, SOCK_STREAM, SECCOMP_RET_ALLOW);
            give(p, DENY);
        }
        end_call(p, begun);
    }
}

/* Nothing is typed into a terminal. */
static void with_ioctl(struct program *p)
{
    unsigned short begun = begin_call(p, SYS_ioctl);
    load(p, ARGUMENT(1));
    when(p, TIOCSTI, DENY);
    when(p, 0x541c /* TIOCLINUX */, DENY);
    give(p, SECCOMP_RET_ALLOW);
    end_call(p, begun);
}

int filter_enforce(enum filter_role role)
{
    static struct program p;
    load(&p, offsetof(struct seccomp_data, arch));
    step(&p, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    give(&p, SECCOMP_RET_KILL_PROCESS);
    load(&p, NUMBER);
#if defined(__x86_64__)
    step(&p, BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1); /* x32: other numbers for the same calls */
    give(&p, SECCOMP_RET_KILL_PROCESS);
#endif
    with_clone(&p, role);
    with_sockets(&p, role);
    with_ioctl(&p);
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
        when(&p, allowed[i], SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < sizeof(allowed_some) / sizeof(allowed_some[0]); i++)
        when(&p, allowed_some[i].nr, allowed_some[i].roles >> role & 1 ? SECCOMP_RET_ALLOW : DENY);
    for (size_t i = 0; role == FILTER_SUPERVISOR && i < sizeof(allowed_supervisor) / sizeof(allowed_supervisor[0]); i++)
        when(&p, allowed_supervisor[i], SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        when(&p, refused[i], DENY);
    give(&p, ABSENT);
    if (p.n == MAX_STEPS)
        return -E2BIG;
    const struct sock_fprog prog = {.len = p.n, .filter = p.steps};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
}
