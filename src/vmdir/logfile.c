#include "vmdir/logfile.h"
#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void logfile_times_name(const char *name, const char *suffix, char out[static 64])
{
    const char *dot = strrchr(name, '.');
    snprintf(out, 64, "%.*s.times%s", dot ? (int)(dot - name) : (int)strlen(name), name, suffix);
}

static int open_one(const struct logfile *l, const char *name, int extra_flags, uint64_t *ret_size)
{
    struct stat st;
    int fd = openat(l->dirfd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | extra_flags, 0600);
    *ret_size = fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    return fd;
}

static void open_files(struct logfile *l, int extra_flags)
{
    char times[64];
    logfile_times_name(l->name, "", times);
    l->fd = open_one(l, l->name, extra_flags, &l->size);
    l->times_fd = open_one(l, times, extra_flags, &l->times_size);
}

static void rotate(struct logfile *l)
{
    char old[64], times[64];
    snprintf(old, sizeof(old), "%s.1", l->name);
    renameat(l->dirfd, l->name, l->dirfd, old);
    logfile_times_name(l->name, "", times);
    logfile_times_name(l->name, ".1", old);
    renameat(l->dirfd, times, l->dirfd, old);
    fd_closep(&l->fd);
    fd_closep(&l->times_fd);
    open_files(l, O_TRUNC);
    l->in_line = false;
}

/* Before the bytes: who reads a line finds its time. */
static void write_time(struct logfile *l, const char *p, size_t n)
{
    const char *end = l->in_line ? memchr(p, '\n', n) : NULL;
    size_t begin = l->in_line ? (end ? (size_t)(end + 1 - p) : n) : 0;
    if (begin == n || l->times_fd < 0)
        return;
    const struct logfile_time t = {.offset = l->size + begin, .at = clock_wall()};
    if (fd_write_all(l->times_fd, &t, sizeof(t)) == 0)
        l->times_size += sizeof(t);
}

void logfile_write(struct logfile *l, const void *p, size_t n)
{
    if (n == 0)
        return;
    if (l->fd < 0)
        open_files(l, 0);
    if ((l->size && l->size + n > l->cap) || l->times_size + sizeof(struct logfile_time) > l->cap)
        rotate(l);
    write_time(l, p, n);
    if (l->fd >= 0 && fd_write_all(l->fd, p, n) == 0) {
        l->size += n;
        l->in_line = ((const char *)p)[n - 1] != '\n';
    }
}

void logfile_printf(struct logfile *l, const char *fmt, ...)
{
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n > 0)
        logfile_write(l, line, MIN_OF((size_t)n, sizeof(line) - 1));
}

void logfile_done(struct logfile *l)
{
    fd_closep(&l->fd);
    fd_closep(&l->times_fd);
}
