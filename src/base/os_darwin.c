/* Apple's calls: intro(2), kqueue(2), fcntl(2), open(2) of macOS 13. Compiled here, never run (docs/platforms.md). */
#include "base/os.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <mach-o/dyld.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

extern char **environ;

/* ---- What Linux' C libraries have under these names (darwin/names.h) ---- */

void explicit_bzero(void *p, size_t n)
{
    (void)memset_s(p, n, 0, n);
}

void *reallocarray(void *p, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, total);
}

void *memrchr(const void *p, int c, size_t n)
{
    const unsigned char *at = p;
    while (n--)
        if (at[n] == (unsigned char)c)
            return (void *)(uintptr_t)(at + n);
    return NULL;
}

/* At most 256 bytes at once (getentropy(2)). */
ssize_t getrandom(void *p, size_t n, unsigned flags)
{
    for (size_t at = 0; at < n; at += 256)
        if (getentropy((char *)p + at, MIN_OF(n - at, (size_t)256)) < 0)
            return -1;
    return (ssize_t)n;
}

/* scandir(3) takes a path: the folder's own, which F_GETPATH tells. */
int scandirat(int dirfd, const char *name, struct dirent ***ret, int (*filter)(const struct dirent *),
              int (*compare)(const struct dirent **, const struct dirent **))
{
    char path[MAXPATHLEN];
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int r = fcntl(fd, F_GETPATH, path);
    int saved = errno;
    close(fd);
    errno = saved;
    return r < 0 ? -1 : scandir(path, ret, filter, compare);
}

int pipe2(int ret[2], int flags)
{
    if (pipe(ret) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (flags & O_CLOEXEC)
            fcntl(ret[i], F_SETFD, FD_CLOEXEC);
        if (flags & O_NONBLOCK)
            fcntl(ret[i], F_SETFL, fcntl(ret[i], F_GETFL) | O_NONBLOCK);
    }
    return 0;
}

/* Digits compare as numbers; what glibc does with leading zeros is not needed. */
int strverscmp(const char *a, const char *b)
{
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            char *a_end, *b_end;
            unsigned long long x = strtoull(a, &a_end, 10), y = strtoull(b, &b_end, 10);
            if (x != y)
                return x < y ? -1 : 1;
            a = a_end;
            b = b_end;
        } else if (*a != *b) {
            break;
        } else {
            a++;
            b++;
        }
    }
    return (unsigned char)*a - (unsigned char)*b;
}

/* ---- Files ---- */

int os_self_path(char *out, size_t size)
{
    uint32_t n = (uint32_t)size;
    return _NSGetExecutablePath(out, &n) < 0 ? -ENAMETOOLONG : 0;
}

int os_pipe(int ret[2])
{
    return pipe2(ret, O_CLOEXEC) < 0 ? -errno : 0;
}

/* fclonefileat(2) makes a file of its own, and does not fill one that is there. */
int os_clone_file(int in_fd, int out_fd)
{
    return -EOPNOTSUPP;
}

ssize_t os_copy_range(int in_fd, int out_fd, off_t at, size_t n)
{
    return -EOPNOTSUPP;
}

int os_enable_verity(int fd)
{
    return -EOPNOTSUPP;
}

/* True where a part of the path leads up. */
static bool goes_up(const char *path)
{
    for (const char *s = path; s; s = strchr(s, '/')) {
        s += *s == '/';
        if (s[0] == '.' && s[1] == '.' && (s[2] == '/' || !s[2]))
            return true;
    }
    return false;
}

/* O_NOFOLLOW_ANY: no symlink in any part. */
int os_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    if (path[0] == '/' || goes_up(path))
        return -EXDEV;
    int fd;
    do
        fd = openat(dirfd, path, (flags & ~O_NOFOLLOW) | O_NOFOLLOW_ANY | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int os_open_unnamed(int dirfd, const char *dir, mode_t mode)
{
    return -EOPNOTSUPP;
}

int os_name_file(int fd, int dirfd, const char *name)
{
    return -EOPNOTSUPP;
}

/* ---- Processes ---- */

pid_t os_fork(int cgroup_fd, bool sibling)
{
    if (cgroup_fd > 0 || sibling)
        return -ENOSYS;
    pid_t pid = fork();
    return pid < 0 ? -errno : pid;
}

int os_die_with_parent(void)
{
    return -ENOSYS;
}

int os_close_on_exec(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return -errno;
    int end = (int)MIN_OF(l.rlim_cur, (rlim_t)OPEN_MAX);
    for (int fd = 3; fd < end; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

int os_close_from(unsigned first)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return -errno;
    int end = (int)MIN_OF(l.rlim_cur, (rlim_t)OPEN_MAX);
    for (int fd = (int)first; fd < end; fd++)
        close(fd);
    return 0;
}

void os_exec(const char *const *argv, char *const *envp)
{
    environ = (char **)(uintptr_t)envp;
    execvp(argv[0], (char *const *)(uintptr_t)argv);
}

/* A kqueue is readable while an event waits in it. */
int os_watch_process(pid_t pid)
{
    int fd = kqueue();
    if (fd < 0)
        return -errno;
    struct kevent e;
    EV_SET(&e, pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && (kevent(fd, &e, 1, NULL, 0, NULL) == 0 || errno == ESRCH))
        return fd;
    int r = -errno;
    close(fd);
    return r;
}

/* A child that has not been waited for keeps its number. */
int os_signal_process(int watch_fd, pid_t pid, int sig)
{
    return kill(pid, sig) < 0 ? -errno : 0;
}
