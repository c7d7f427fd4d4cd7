#include "base/fd.h"
#include "base/path.h"
#include "wire/frame.h"
#include "wire/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH    128
#define MAX_MADE_UP  (64u << 20) /* of a file that tells no size */
#define MADE_UP_SIZE (64u << 10) /* what such a file says at most */

static int send_keyed_entry(struct tree_sender *s, uint64_t kind, const char *path, mode_t mode, uint64_t size,
                            const char *target, const uint8_t *key, bool kept, struct mvm_error *err)
{
    CLEAN_FREE struct msg_entry *m = calloc(1, sizeof(*m));
    if (!m)
        return mvm_error_errno(err, -ENOMEM, "%s", path);
    if (strlen(path) >= sizeof(m->path) || strlen(target) >= sizeof(m->target))
        return mvm_error_set(err, -ENAMETOOLONG, "%.100s...: path too long", path);
    m->kind = kind;
    m->mode = mode & 07777;
    m->size = size;
    strcpy(m->path, path);
    strcpy(m->target, target);
    if (key)
        memcpy(m->key, key, m->key_len = sizeof(m->key));
    m->kept = kept;
    int r = msg_entry_encode(&s->msg, m);
    if (r == 0)
        r = s->emit(s->data, CHAN_MSG, s->msg.data, s->msg.len);
    return r < 0 ? mvm_error_errno(err, r, "cannot send %s", path) : 0;
}

static int send_entry(struct tree_sender *s, uint64_t kind, const char *path, mode_t mode, uint64_t size,
                      const char *target, struct mvm_error *err)
{
    return send_keyed_entry(s, kind, path, mode, size, target, NULL, false, err);
}

static bool all_zero(const uint8_t *p, size_t n)
{
    /* A block of zeros equals itself shifted by one byte; memcmp is the fastest loop there is. */
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

#define ZERO_BLOCK 4096u

/* Emits one run of bytes as chunks; `record` has room for the header in front of each. */
static int send_bytes(struct tree_sender *s, uint8_t *record, size_t n, uint64_t offset)
{
    uint64_t sum = tree_checksum(record + TREE_CHUNK_HEADER, n);
    for (int i = 0; i < 8; i++) {
        record[i] = (uint8_t)(offset >> (8 * i));
        record[8 + i] = (uint8_t)(sum >> (8 * i));
    }
    return s->emit(s->data, CHAN_TREE, record, TREE_CHUNK_HEADER + n);
}

/* Sends what of a chunk is not zeros, in runs of whole blocks (only a file's last one may be
 * short). */
static int send_chunk(struct tree_sender *s, uint8_t *record, size_t n, uint64_t offset)
{
    const uint8_t *data = record + TREE_CHUNK_HEADER;
    size_t start = 0;
    for (size_t at = 0, len; at < n; at += len) {
        len = MIN_OF(n - at, (size_t)ZERO_BLOCK);
        if (!all_zero(data + at, len))
            continue;
        /* The header goes right in front of its run, over zeros that are not sent. */
        int r = at > start ? send_bytes(s, record + start, at - start, offset + start) : 0;
        if (r < 0)
            return r;
        start = at + len;
    }
    return n > start ? send_bytes(s, record + start, n - start, offset + start) : 0;
}

static int send_range(struct tree_sender *s, const char *path, int fd, uint64_t at, uint64_t end, uint8_t *record,
                      struct mvm_error *err)
{
    while (at < end) {
        size_t n = (size_t)MIN_OF((uint64_t)TREE_MAX_CHUNK, end - at);
        int r = fd_pread_all(fd, record + TREE_CHUNK_HEADER, n, at);
        if (r == -ENODATA)
            return mvm_error_set(err, -ESTALE, "%s changed while it was read", path);
        if (r < 0)
            return mvm_error_errno(err, r, "cannot read %s", path);
        r = send_chunk(s, record, n, at);
        if (r < 0)
            return mvm_error_errno(err, r, "cannot send %s", path);
        at += n;
    }
    return 0;
}

/* What was read is one state of the file only if nobody wrote meanwhile; a size that differs is
 * proof of the contrary. */
static int check_size(const char *path, int fd, off_t size, struct mvm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", path);
    return st.st_size == size ? 0 : mvm_error_set(err, -ESTALE, "%s changed while it was read", path);
}

static int read_to_end(int fd, struct buf *out)
{
    for (;;) {
        int r = buf_reserve(out, out->len + (64 << 10));
        ssize_t n = r < 0 ? 0 : pread(fd, out->data + out->len, 64 << 10, (off_t)out->len);
        if (r < 0 || n == 0)
            return r;
        if (n < 0 && errno != EINTR)
            return -errno;
        out->len += n > 0 ? (size_t)n : 0;
    }
}

/* A file without blocks may be one that the kernel makes up as it is read (/proc says 0 bytes, /sys 4096). 1 where it
 * was one, and has been sent. */
static int send_made_up(struct tree_sender *s, const char *path, int fd, const struct stat *st, struct mvm_error *err)
{
    if (st->st_blocks || st->st_size > (off_t)MADE_UP_SIZE)
        return 0;
    CLEAN_BUF struct buf b = BUF_INIT(MAX_MADE_UP);
    int r = read_to_end(fd, &b);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read %s", path);
    if (b.len == (size_t)st->st_size)
        return 0;
    r = tree_send_memory(s, path, st->st_mode & 0777, b.data, b.len, err);
    return r < 0 ? r : 1;
}

static int send_file(struct tree_sender *s, const char *path, int fd, const uint8_t *key, bool kept,
                     struct mvm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", path);
    if (!S_ISREG(st.st_mode))
        return mvm_error_set(err, -EINVAL, "cannot read %s: not a regular file", path);
    int r = key ? 0 : send_made_up(s, path, fd, &st, err);
    if (r != 0)
        return MIN_OF(r, 0);
    r = send_keyed_entry(s, ENTRY_FILE, path, st.st_mode & 0777, (uint64_t)st.st_size, "", key, kept, err);
    if (kept)
        return r;
    CLEAN_FREE uint8_t *record = malloc(TREE_CHUNK_HEADER + TREE_MAX_CHUNK);
    if (!record)
        return mvm_error_errno(err, -ENOMEM, "%s", path);
    off_t at = 0;
    while (r == 0 && at < st.st_size) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data < 0 ? st.st_size : lseek(fd, data, SEEK_HOLE);
        if (data < 0)
            data = at; /* a file system that knows no holes */
        hole = hole < 0 ? st.st_size : MIN_OF(hole, st.st_size);
        r = send_range(s, path, fd, (uint64_t)data, (uint64_t)hole, record, err);
        at = hole;
    }
    return r < 0 ? r : check_size(path, fd, st.st_size, err);
}

int tree_send_file(struct tree_sender *s, const char *path, int fd, struct mvm_error *err)
{
    return send_file(s, path, fd, NULL, false, err);
}

int tree_send_keyed(struct tree_sender *s, const char *path, int fd, const uint8_t *key, bool kept,
                    struct mvm_error *err)
{
    return send_file(s, path, fd, key, kept, err);
}

int tree_send_memory(struct tree_sender *s, const char *path, mode_t mode, const void *p, size_t n,
                     struct mvm_error *err)
{
    int r = send_entry(s, ENTRY_FILE, path, mode, n, "", err);
    CLEAN_FREE uint8_t *record = malloc(TREE_CHUNK_HEADER + TREE_MAX_CHUNK);
    if (!record)
        return mvm_error_errno(err, -ENOMEM, "%s", path);
    for (size_t at = 0; r == 0 && at < n;) {
        size_t len = MIN_OF(n - at, (size_t)TREE_MAX_CHUNK);
        memcpy(record + TREE_CHUNK_HEADER, (const uint8_t *)p + at, len);
        r = send_bytes(s, record, len, at);
        if (r < 0)
            mvm_error_errno(err, r, "cannot send %s", path);
        at += len;
    }
    return r;
}

int tree_send_dir(struct tree_sender *s, const char *path, mode_t mode, struct mvm_error *err)
{
    return send_entry(s, ENTRY_DIR, path, mode, 0, "", err);
}

int tree_send_symlink(struct tree_sender *s, const char *path, const char *target, struct mvm_error *err)
{
    return send_entry(s, ENTRY_SYMLINK, path, 0777, 0, target, err);
}

static int send_children(struct tree_sender *s, int fd, const char *path, unsigned depth, struct mvm_error *err);

static int send_path(struct tree_sender *s, int parent, const char *name, const char *path, unsigned depth,
                     struct mvm_error *err)
{
    struct stat st;
    if (depth > MAX_DEPTH || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return mvm_error_errno(err, depth > MAX_DEPTH ? -ELOOP : -errno, "cannot read %s", path);
    if (S_ISLNK(st.st_mode)) {
        char target[ENTRY_MAX_PATH];
        ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);
        if (n < 0)
            return mvm_error_errno(err, -errno, "cannot read %s", path);
        target[n] = '\0';
        return tree_send_symlink(s, path, target, err);
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return depth ? 0
                     : mvm_error_set(err, -EINVAL, "cannot copy %s: it is %s, and only files, folders and symlinks are",
                                     path, tree_kind_name(st.st_mode));
    CLEAN_FD int fd = openat(parent, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", path);
    if (S_ISREG(st.st_mode))
        return tree_send_file(s, path, fd, err);
    int r = tree_send_dir(s, path, st.st_mode, err);
    return r < 0 ? r : send_children(s, fd, path, depth, err);
}

static int send_children(struct tree_sender *s, int fd, const char *path, unsigned depth, struct mvm_error *err)
{
    int list_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = list_fd >= 0 ? fdopendir(list_fd) : NULL;
    if (!d)
        return mvm_error_errno(err, -errno, "cannot list %s", path);
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        char sub[ENTRY_MAX_PATH];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if ((size_t)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) >= sizeof(sub))
            r = mvm_error_set(err, -ENAMETOOLONG, "path too long below %s", path);
        else
            r = send_path(s, fd, e->d_name, sub, depth + 1, err);
    }
    closedir(d);
    return r;
}

int tree_send_path(struct tree_sender *s, int dirfd, const char *name, const char *path, struct mvm_error *err)
{
    return send_path(s, dirfd, name, path, 0, err);
}

int tree_send_end(struct tree_sender *s, struct mvm_error *err)
{
    int r = msg_begin(&s->msg, MSG_END);
    if (r == 0)
        r = s->emit(s->data, CHAN_MSG, s->msg.data, s->msg.len);
    return r < 0 ? mvm_error_errno(err, r, "cannot send the end of the tree") : 0;
}

void tree_sender_done(struct tree_sender *s)
{
    buf_done(&s->msg);
}
