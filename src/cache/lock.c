#include "cache/lock.h"
#include "base/buf.h"
#include "base/fd.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static void read_holder(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (!*out)
        snprintf(out, size, "another process");
}

static int wait_for(int fd, const struct lock_wait *wait, const char *holder)
{
    if (wait->waiting)
        wait->waiting(wait->data, holder);
    if (wait->deadline)
        return os_lock_until(fd, wait->deadline);
    return flock(fd, LOCK_EX) < 0 ? -errno : 0;
}

int lock_take(struct lock *l, int dirfd, const char *name, const char *what, const struct lock_wait *wait,
              struct mvm_error *err)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot open the lock %s", name);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int r = -errno;
        char holder[256];
        read_holder(fd, holder, sizeof(holder));
        if (r == -EWOULDBLOCK && wait)
            r = wait_for(fd, wait, holder);
        if (r < 0)
            return mvm_error_errno(err, r, "waiting for %s", holder);
    }
    /* Who has it now, for those who wait. Not knowing it is no reason to fail. */
    char text[200];
    int n = snprintf(text, sizeof(text), "pid %d: %.150s\n", getpid(), what);
    if (ftruncate(fd, 0) == 0)
        (void)!fd_pwrite_all(fd, text, (size_t)n, 0);
    l->fd = TAKE_FD(fd);
    return 0;
}

int lock_is_held(int dirfd, const char *name)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    /* A shared try: two who look at once do not see each other as holders. */
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? 1 : -errno;
}

void lock_done(struct lock *l)
{
    /* Only closed, never unlocked: a supervisor that was handed the descriptor keeps the lock. */
    fd_closep(&l->fd);
}
