#include "machine/logfile.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

static void open_file(struct logfile *l, int extra_flags)
{
    l->fd = openat(l->dirfd, l->name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | extra_flags, 0600);
    struct stat st;
    l->size = l->fd >= 0 && fstat(l->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void logfile_write(struct logfile *l, const void *p, size_t n)
{
    if (l->fd < 0)
        open_file(l, 0);
    if (l->size && l->size + n > l->cap) {
        char old[64];
        snprintf(old, sizeof(old), "%s.1", l->name);
        renameat(l->dirfd, l->name, l->dirfd, old);
        fd_closep(&l->fd);
        open_file(l, O_TRUNC);
    }
    if (l->fd >= 0 && fd_write_all(l->fd, p, n) == 0)
        l->size += n;
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
}
