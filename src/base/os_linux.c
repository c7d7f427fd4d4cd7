#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int os_self_path(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    if (n < 0)
        return -errno;
    out[n] = '\0';
    return 0;
}

int os_pipe(int ret[2])
{
    return pipe2(ret, O_CLOEXEC) < 0 ? -errno : 0;
}

int os_clone_file(int in_fd, int out_fd)
{
    return ioctl(out_fd, FICLONE, in_fd) < 0 ? -errno : 0;
}

ssize_t os_copy_range(int in_fd, int out_fd, off_t at, size_t n)
{
    off_t in_at = at, out_at = at;
    ssize_t done = copy_file_range(in_fd, &in_at, out_fd, &out_at, n, 0);
    if (done >= 0)
        return done;
    return errno == EXDEV || errno == EINVAL || errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

int os_enable_verity(int fd)
{
    const struct fsverity_enable_arg arg = {
        .version = 1, .hash_algorithm = FS_VERITY_HASH_ALG_SHA256, .block_size = 4096};
    return ioctl(fd, FS_IOC_ENABLE_VERITY, &arg) < 0 ? -errno : 0;
}

int os_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = makes ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;
    do
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd < 0 ? -errno : (int)fd;
}

int os_open_unnamed(int dirfd, const char *dir, mode_t mode)
{
    return os_open_beneath(dirfd, dir, O_WRONLY | O_TMPFILE, mode);
}

int os_name_file(int fd, int dirfd, const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* A child that is born in its cgroup is there in 0.2 ms; to move one takes the kernel up to 15 ms. */
pid_t os_fork(int cgroup_fd, bool sibling)
{
    const struct clone_args a = {.flags = CLONE_INTO_CGROUP | (sibling ? CLONE_PARENT : 0),
                                 .exit_signal = sibling ? 0 : SIGCHLD,
                                 .cgroup = (uint64_t)cgroup_fd};
    long pid;
    if (cgroup_fd > 0)
        pid = syscall(SYS_clone3, &a, sizeof(a));
    else
        pid = sibling ? syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL) : fork();
    return pid < 0 ? -errno : (pid_t)pid;
}

int os_die_with_parent(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

int os_close_on_exec(void)
{
    return syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

int os_close_from(unsigned first)
{
    return syscall(SYS_close_range, first, ~0u, 0) < 0 ? -errno : 0;
}

void os_exec(const char *const *argv, char *const *envp)
{
    /* execvpe takes char *const[]; the strings are not changed. */
    char *const *args = (char *const *)(uintptr_t)argv;
    execvpe(args[0], args, envp);
}

int os_watch_process(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

int os_signal_process(int watch_fd, pid_t pid, int sig)
{
    return syscall(SYS_pidfd_send_signal, watch_fd, sig, NULL, 0) < 0 ? -errno : 0;
}
