#include "base/fd.h"
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void fd_closep(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}

int fd_write_all(int fd, const void *p, size_t n)
{
    const uint8_t *at = p;
    while (n) {
        ssize_t w = write(fd, at, n);
        if (w < 0 && errno == EAGAIN) {
            struct pollfd full = {.fd = fd, .events = POLLOUT};
            (void)!poll(&full, 1, -1);
            continue;
        }
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -errno;
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

int fd_read_all(int fd, void *p, size_t n)
{
    uint8_t *at = p;
    while (n) {
        ssize_t r = read(fd, at, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            return -ENODATA;
        at += r;
        n -= (size_t)r;
    }
    return 0;
}

int fd_pwrite_all(int fd, const void *p, size_t n, uint64_t offset)
{
    const uint8_t *at = p;
    while (n) {
        ssize_t w = pwrite(fd, at, n, (off_t)offset);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -errno;
        at += w;
        n -= (size_t)w;
        offset += (uint64_t)w;
    }
    return 0;
}

int fd_pread_all(int fd, void *p, size_t n, uint64_t offset)
{
    uint8_t *at = p;
    while (n) {
        ssize_t r = pread(fd, at, n, (off_t)offset);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            return -ENODATA;
        at += r;
        n -= (size_t)r;
        offset += (uint64_t)r;
    }
    return 0;
}

static int set_flag(int fd, int get, int set, int flag, bool on)
{
    int flags = fcntl(fd, get);
    if (flags < 0)
        return -errno;
    return fcntl(fd, set, on ? flags | flag : flags & ~flag) < 0 ? -errno : 0;
}

ssize_t fd_recv_packet(int fd, void *p, size_t n, int flags)
{
    struct iovec iov = {.iov_base = p, .iov_len = n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    return fd_recv_message(fd, &m, flags);
}

ssize_t fd_recv_message(int fd, struct msghdr *m, int flags)
{
    const struct msghdr asked = *m;
    for (unsigned ends = 0; ends < 2;) {
        *m = asked; /* recvmsg has said in it what came */
        ssize_t got = recvmsg(fd, m, flags);
        if (got > 0)
            return got;
        if (got == 0)
            ends++;
        else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int fd_set_nonblock(int fd, bool on)
{
    return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, bool on)
{
    return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

static int copy_range(int in_fd, int out_fd, off_t from, off_t to)
{
    while (from < to) {
        ssize_t n = os_copy_range(in_fd, out_fd, from, (size_t)(to - from));
        if (n == 0)
            return -ENODATA;
        if (n > 0) {
            from += n;
            continue;
        }
        if (n == -EINTR)
            continue;
        if (n != -EOPNOTSUPP)
            return (int)n;
        static _Thread_local uint8_t chunk[1 << 16];
        size_t want = (size_t)MIN_OF((off_t)sizeof(chunk), to - from);
        int r = fd_pread_all(in_fd, chunk, want, (uint64_t)from);
        if (r == 0)
            r = fd_pwrite_all(out_fd, chunk, want, (uint64_t)from);
        if (r < 0)
            return r;
        from += (off_t)want;
    }
    return 0;
}

int fd_copy_file(int in_fd, int out_fd)
{
    if (os_clone_file(in_fd, out_fd) == 0)
        return 0;
    struct stat st;
    if (fstat(in_fd, &st) < 0)
        return -errno;
    if (ftruncate(out_fd, st.st_size) < 0)
        return -errno;
    off_t at = 0;
    while (at < st.st_size) {
        off_t data = lseek(in_fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0)
            return -errno;
        off_t hole = lseek(in_fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        int r = copy_range(in_fd, out_fd, data, hole);
        if (r < 0)
            return r;
        at = hole;
    }
    return 0;
}
