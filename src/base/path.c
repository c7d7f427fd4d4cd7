#include "base/path.h"
#include "base/fd.h"
#include "base/os.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

char *path_join(const char *first, ...)
{
    CLEAN_BUF struct buf b = BUF_INIT(16384);
    if (buf_str(&b, first) < 0)
        return NULL;
    va_list ap;
    va_start(ap, first);
    int r = 0;
    for (const char *s = va_arg(ap, const char *); s && r == 0; s = va_arg(ap, const char *)) {
        if (b.len && b.data[b.len - 1] != '/')
            r = buf_str(&b, "/");
        if (r == 0)
            r = buf_str(&b, s);
    }
    va_end(ap);
    return r < 0 ? NULL : (char *)TAKE_PTR(b.data);
}

bool path_is_plain_name(const char *name, size_t max)
{
    size_t n = strlen(name);
    if (n == 0 || n > max || !isalnum((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
            return false;
    return true;
}

bool path_is_safe_relative(const char *path)
{
    size_t n = strlen(path);
    if (n == 0 || n > 4095 || path[0] == '/' || path[n - 1] == '/')
        return false;
    for (const char *s = path; s;) {
        const char *slash = strchr(s, '/');
        size_t len = slash ? (size_t)(slash - s) : strlen(s);
        if (len == 0 || len > 255 || (len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.'))
            return false;
        s = slash ? slash + 1 : NULL;
    }
    return true;
}

int path_open_dir(int dirfd, const char *path, struct mvm_error *err)
{
    char part[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(part))
        return mvm_error_set(err, -ENAMETOOLONG, "path of %zu bytes", n);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdirat(dirfd, part, 0700) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            return mvm_error_errno(err, -errno, "cannot make folder %s", part);
    }
    int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot open folder %s", path);
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid()) {
        close(fd);
        mvm_error_set(err, -EPERM, "folder %s belongs to another user", path);
        mvm_error_hint(err, "remove it, or set MVM_HOME and MVM_CACHE_DIR to folders of your own");
        return -EPERM;
    }
    return fd;
}

int path_make_parents(int dirfd, const char *path, mode_t mode)
{
    CLEAN_FD int at = -1;
    const char *s = path;
    for (const char *slash = strchr(s, '/'); slash; s = slash + 1, slash = strchr(s, '/')) {
        char name[256];
        size_t n = (size_t)(slash - s);
        if (n == 0 || n >= sizeof(name))
            return -EINVAL;
        memcpy(name, s, n);
        name[n] = '\0';
        int parent = at >= 0 ? at : dirfd;
        if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
            return -errno;
        int next = os_open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0);
        if (next < 0)
            return next;
        fd_closep(&at);
        at = next;
    }
    return 0;
}

int path_read_file(int dirfd, const char *name, struct buf *out, struct mvm_error *err)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", name);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", name);
    if (!S_ISREG(st.st_mode))
        return mvm_error_set(err, -EINVAL, "cannot read %s: not a regular file", name);
    for (;;) {
        if (out->len == out->max) {
            char extra;
            if (read(fd, &extra, 1) == 0)
                return 0;
            return mvm_error_set(err, -EMSGSIZE, "cannot read %s: larger than %zu bytes", name, out->max);
        }
        ssize_t n = buf_read(out, fd, MIN_OF(out->max - out->len, (size_t)1 << 16));
        if (n == 0)
            return 0;
        if (n < 0)
            return mvm_error_errno(err, (int)n, "cannot read %s", name);
    }
}

/* A name for a temporary file beside the target; path_sweep_temporary knows it again. */
static void temp_name(const char *name, char out[static 300])
{
    static unsigned counter;
    snprintf(out, 300, ".%.200s.%d.%u.tmp", name, getpid(), counter++);
}

int path_write_file(int dirfd, const char *name, const void *data, size_t len, mode_t mode, bool sync,
                    struct mvm_error *err)
{
    char tmp[300];
    temp_name(name, tmp);
    CLEAN_FD int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot write %s", name);
    int r = fd_write_all(fd, data, len);
    if (r == 0 && fchmod(fd, mode) < 0)
        r = -errno;
    if (r == 0 && sync && fsync(fd) < 0)
        r = -errno;
    if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
        r = -errno;
    if (r < 0) {
        unlinkat(dirfd, tmp, 0);
        return mvm_error_errno(err, r, "cannot write %s", name);
    }
    if (sync)
        fsync(dirfd);
    return 0;
}

/* The process that a temporary file is of, by its name; 0: it is none. */
static pid_t writer_of(const char *name)
{
    size_t n = strlen(name);
    int pid = 0, end = 0;
    const char *at = name + n;
    if (n < sizeof(".x.1.0.tmp") - 1 || name[0] != '.' || strcmp(at - 4, ".tmp") != 0)
        return 0;
    for (unsigned dots = 0; at > name + 1 && dots < 3;)
        dots += *--at == '.';
    return sscanf(at, ".%9d.%*9u.tmp%n", &pid, &end) == 1 && at[end] == '\0' && pid > 0 ? pid : 0;
}

static int sweep_entry(void *data, const char *name)
{
    int dirfd = *(const int *)data;
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISDIR(st.st_mode)) {
        CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0)
            path_sweep_temporary(fd);
        return 0;
    }
    pid_t writer = writer_of(name);
    if (writer && st.st_mtime < time(NULL) - 60 && kill(writer, 0) < 0 && errno == ESRCH)
        unlinkat(dirfd, name, 0);
    return 0;
}

void path_sweep_temporary(int dirfd)
{
    (void)!path_each(dirfd, ".", sweep_entry, &dirfd);
}

int path_replace_symlink(int dirfd, const char *target, const char *name, struct mvm_error *err)
{
    char tmp[300];
    temp_name(name, tmp);
    unlinkat(dirfd, tmp, 0);
    if (symlinkat(target, dirfd, tmp) < 0)
        return mvm_error_errno(err, -errno, "cannot make link %s", name);
    if (renameat(dirfd, tmp, dirfd, name) < 0) {
        int r = -errno;
        unlinkat(dirfd, tmp, 0);
        return mvm_error_errno(err, r, "cannot make link %s", name);
    }
    return 0;
}

int path_each(int dirfd, const char *name, int (*each)(void *data, const char *entry), void *data)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return -errno;
    fd = -1; /* d owns it */
    int r = 0;
    while (r == 0) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e) {
            r = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = each(data, e->d_name);
    }
    closedir(d);
    return r;
}

static int remove_content(int fd, unsigned depth)
{
    if (depth > 512)
        return -ELOOP;
    /* Somebody's build may have left read-only folders. */
    (void)fchmod(fd, 0700);
    int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (dup_fd < 0)
        return -errno;
    DIR *d = fdopendir(dup_fd);
    if (!d) {
        int r = -errno;
        close(dup_fd);
        return r;
    }
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, e->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            r = -errno;
            break;
        }
        CLEAN_FD int sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub < 0) {
            /* Perhaps a folder without read permission. */
            if (fchmodat(fd, e->d_name, 0700, 0) == 0)
                sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub < 0) {
                r = -errno;
                break;
            }
        }
        r = remove_content(sub, depth + 1);
        if (r == 0 && unlinkat(fd, e->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            r = -errno;
    }
    closedir(d);
    return r;
}

int path_remove_tree(int dirfd, const char *name)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    /* EACCES: Landlock may let this process remove folders here, and no files. */
    if (errno != EISDIR && errno != EPERM && errno != EACCES)
        return -errno;
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR ? -EACCES : -errno;
    int r = remove_content(fd, 0);
    if (r == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        r = -errno;
    return r;
}
