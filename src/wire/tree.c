#include "wire/tree.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "wire/frame.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH    128
#define MAX_MADE_UP  (64u << 20) /* of a file that tells no size */
#define MADE_UP_SIZE (64u << 10) /* what such a file says at most */

/* Four lanes, so that neither the host's pipeline nor an emulator's waits for one multiplication
 * after another. */
#define LANE_PRIME 0x9e3779b97f4a7c15ull

static uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v; /* both ends are little-endian machines */
}

static uint64_t rotate_left(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

uint64_t tree_checksum(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t lane[4] = {1, 2, 3, 4};
    size_t whole = n / 32;
    for (size_t i = 0; i < whole; i++, p += 32)
        for (int k = 0; k < 4; k++)
            lane[k] = rotate_left((lane[k] ^ load_u64(p + 8 * k)) * LANE_PRIME, 29);
    uint8_t tail[32] = {0};
    if (n % 32)
        memcpy(tail, p, n % 32);
    uint64_t sum = n;
    for (int k = 0; k < 4; k++) {
        lane[k] = rotate_left((lane[k] ^ load_u64(tail + 8 * k)) * LANE_PRIME, 29);
        sum = rotate_left((sum ^ lane[k]) * LANE_PRIME, 31);
    }
    return sum;
}

/* ---- Sending ---- */

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

static const char *kind_name(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISREG(mode)  ? "a file"
           : S_ISLNK(mode)  ? "a symlink"
           : S_ISFIFO(mode) ? "a fifo"
           : S_ISSOCK(mode) ? "a socket"
                            : "a device";
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
                                     path, kind_name(st.st_mode));
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

/* ---- Receiving ---- */

void tree_receiver_init(struct tree_receiver *t, int dirfd, const struct tree_limits *limits)
{
    *t = (struct tree_receiver){.dirfd = dirfd, .limits = *limits, .fd = -1, .parent = -1};
}

static void tell_content(struct tree_receiver *t, const void *p, uint64_t n)
{
    if (t->content && n)
        t->content(t->data, t->entry->path, p, n);
}

/* The folder that path is in, opened without leaving the tree or following a symlink, and the last component. It stays
 * the receiver's: the next file is mostly in the same folder. */
static int open_parent(struct tree_receiver *t, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    *ret_name = slash ? slash + 1 : path;
    if (t->parent >= 0 && strlen(t->parent_path) == n && memcmp(t->parent_path, path, n) == 0)
        return t->parent;
    fd_closep(&t->parent);
    free(t->parent_path);
    t->parent_path = strndup(path, n);
    if (!t->parent_path)
        return -ENOMEM;
    int fd = path_open_beneath(t->dirfd, n ? t->parent_path : ".", O_RDONLY | O_DIRECTORY, 0);
    t->parent = fd < 0 ? -1 : fd;
    return fd;
}

/* The name under which a file is written until it is whole. */
static const char *part_name(const struct tree_receiver *t, const char *name)
{
    return t->replace ? t->part : name;
}

/* Two copies to one place do not write into each other's halves. */
static int new_part_name(struct tree_receiver *t)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return -EIO;
    snprintf(t->part, sizeof(t->part), ".mvm-part-%016llx", (unsigned long long)random);
    return 0;
}

/* What is there is replaced by its own kind only: nobody expects a copy to remove a device, or to change what a symlink
 * points to, and a folder is no file's other version. */
static int check_target(const struct tree_receiver *t, const struct msg_entry *e, int parent, const char *name,
                        struct mvm_error *err)
{
    static const mode_t types[] = {[ENTRY_FILE] = S_IFREG, [ENTRY_DIR] = S_IFDIR, [ENTRY_SYMLINK] = S_IFLNK};
    struct stat st;
    if (!t->replace || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & S_IFMT) == types[e->kind])
        return 0;
    return mvm_error_set(err, -EEXIST, "%s: there is %s of that name, which no copy of %s replaces", e->path,
                         kind_name(st.st_mode), kind_name(types[e->kind]));
}

/* Half a file is no file. */
static void discard_file(struct tree_receiver *t)
{
    if (t->fd < 0)
        return;
    if (t->nameless) {
        fd_closep(&t->fd);
        return;
    }
    const char *name;
    int parent = open_parent(t, t->entry->path, &name);
    if (parent >= 0)
        unlinkat(parent, part_name(t, name), 0);
    fd_closep(&t->fd);
}

static mode_t file_mode(const struct tree_receiver *t, const struct msg_entry *e)
{
    return !t->canonical ? (mode_t)e->mode & 0777 : e->mode & 0100 ? 0555 : 0444;
}

/* Each of these calls takes a tenth of a millisecond in an emulated guest, and most files need none of them. */
static int set_size_and_mode(const struct tree_receiver *t)
{
    struct stat st;
    mode_t mode = file_mode(t, t->entry);
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = 1}};
    if (fstat(t->fd, &st) < 0 || ((uint64_t)st.st_size != t->size && ftruncate(t->fd, (off_t)t->size) < 0) ||
        ((st.st_mode & 07777) != mode && fchmod(t->fd, mode) < 0))
        return -errno;
    if (t->canonical && (fchown(t->fd, t->owner, t->owner) < 0 || futimens(t->fd, times) < 0))
        return -errno;
    return 0;
}

/* The file gets its name, as one step. Linux links no file over another: where there is one already, the whole new file
 * has a name of its own for a moment. */
static int name_file(const struct tree_receiver *t, int parent, const char *name)
{
    int r = 0;
    if (t->nameless) {
        r = os_name_file(t->fd, parent, name);
        if (r == -EEXIST)
            r = os_name_file(t->fd, parent, t->part);
        else
            return r;
    }
    if (r < 0)
        return r;
    r = renameat(parent, t->part, parent, name) < 0 ? -errno : 0;
    if (r < 0 && t->nameless)
        unlinkat(parent, t->part, 0);
    return r;
}

static int finish_file(struct tree_receiver *t, struct mvm_error *err)
{
    if (t->fd < 0)
        return 0;
    const char *path = t->entry->path;
    int r = set_size_and_mode(t);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot write %s", path);
    if (t->replace) {
        const char *name;
        int parent = open_parent(t, path, &name);
        r = parent < 0 ? 0 : check_target(t, t->entry, parent, name, err);
        if (r < 0)
            return r;
        r = parent < 0 ? parent : name_file(t, parent, name);
        if (r < 0)
            return mvm_error_errno(err, r, "cannot write %s", path);
    }
    fd_closep(&t->fd);
    if (t->keeper && t->keeper->keep && t->entry->key_len == TREE_KEY_SIZE)
        t->keeper->keep(t->data, t->entry->key, path);
    tell_content(t, NULL, t->size - t->at);
    if (t->file_done)
        t->file_done(t->data, path, t->size);
    return 0;
}

/* Where the file system can, what is copied has no name until it is whole: a receiver that is killed leaves no half of
 * a file (open(2), O_TMPFILE; overlayfs has it since Linux 6.3, NFS and FAT do not). Elsewhere it has a name of its own
 * until then, which stays if the receiver is killed. */
static int open_file(struct tree_receiver *t, int parent, const char *name, mode_t mode)
{
    int fd = t->replace ? os_open_unnamed(parent, ".", mode) : -EOPNOTSUPP;
    t->nameless = fd >= 0;
    return fd >= 0 ? fd : path_open_beneath(parent, part_name(t, name), O_WRONLY | O_CREAT | O_EXCL, mode);
}

static int begin_file(struct tree_receiver *t, const struct msg_entry *e, struct mvm_error *err)
{
    if (e->size > t->limits.max_size || e->size > INT64_MAX)
        return mvm_error_set(err, -EFBIG, "%s: %llu bytes are more than allowed", e->path, (unsigned long long)e->size);
    const char *name;
    int parent = open_parent(t, e->path, &name);
    if (parent < 0)
        return mvm_error_errno(err, parent, "cannot make %s", e->path);
    if (e->kept) {
        int r = t->keeper && e->key_len == TREE_KEY_SIZE ? t->keeper->take(t->data, e->key, parent, name) : -EPROTO;
        return r < 0 ? mvm_error_errno(err, r, "%s came without its content", e->path) : 0;
    }
    int r = check_target(t, e, parent, name, err);
    if (r == 0 && t->replace && (r = new_part_name(t)) < 0)
        mvm_error_errno(err, r, "cannot make %s", e->path);
    if (r < 0)
        return r;
    int fd = open_file(t, parent, name, file_mode(t, e));
    if (fd < 0)
        return mvm_error_errno(err, fd, "cannot make %s", e->path);
    t->fd = fd;
    t->size = e->size;
    t->at = 0;
    return 0;
}

static int make_symlink(struct tree_receiver *t, const struct msg_entry *e, struct mvm_error *err)
{
    if (!e->target[0])
        return mvm_error_set(err, -EPROTO, "%s: symlink without a target", e->path);
    const char *name;
    int parent = open_parent(t, e->path, &name);
    if (parent < 0)
        return mvm_error_errno(err, parent, "cannot make %s", e->path);
    int r = check_target(t, e, parent, name, err);
    if (r < 0)
        return r;
    if (t->replace) {
        r = path_replace_symlink(parent, e->target, name, NULL);
        return r < 0 ? mvm_error_errno(err, r, "cannot make %s", e->path) : 0;
    }
    if (symlinkat(e->target, parent, name) < 0)
        return mvm_error_errno(err, -errno, "cannot make %s", e->path);
    return 0;
}

/* Folders are made as they come, never their parents; one that is there already, as a folder, is
 * taken as it is. */
static int make_dir(struct tree_receiver *t, const struct msg_entry *e, struct mvm_error *err)
{
    const char *name;
    int parent = open_parent(t, e->path, &name);
    if (parent < 0)
        return mvm_error_errno(err, parent, "cannot make %s", e->path);
    int r = check_target(t, e, parent, name, err);
    if (r < 0)
        return r;
    bool made = mkdirat(parent, name, 0700) == 0;
    if (!made && errno != EEXIST)
        return mvm_error_errno(err, -errno, "cannot make %s", e->path);
    CLEAN_FD int fd = path_open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0);
    r = fd < 0 ? fd : 0;
    /* The owner's bits stay set, or what is in the folder could not be made. */
    if (made && r == 0 && fchmod(fd, (mode_t)(e->mode & 0777) | 0700) < 0)
        r = -errno;
    return r < 0 ? mvm_error_errno(err, r, "cannot make %s", e->path) : 0;
}

/* Puts another name in the place of the path's first component. */
static bool rename_top(char path[static ENTRY_MAX_PATH], const char *top)
{
    char renamed[ENTRY_MAX_PATH];
    int n = snprintf(renamed, sizeof(renamed), "%s%s", top, path + strcspn(path, "/"));
    if (n < 0 || (size_t)n >= sizeof(renamed))
        return false;
    snprintf(path, ENTRY_MAX_PATH, "%s", renamed);
    return true;
}

/* Nothing but what was asked for, whatever the sender likes to send. The path is as it came. */
static int check_top(struct tree_receiver *t, const struct msg_entry *e, struct mvm_error *err)
{
    if (!t->one_top)
        return 0;
    size_t n = strcspn(e->path, "/");
    bool top = !e->path[n];
    if (!t->top_kind) {
        snprintf(t->first, sizeof(t->first), "%.*s", (int)n, e->path);
        if (!top || (t->expect && strcmp(t->first, t->expect) != 0))
            return mvm_error_set(err, -EPROTO, "'%.100s' came where another name was asked for", e->path);
        if (e->kind == ENTRY_SYMLINK && t->no_link)
            return mvm_error_set(err, -EPROTO, "'%.100s' came as a symlink, which was not asked for", e->path);
        t->top_kind = e->kind;
        return 0;
    }
    if (top || t->top_kind != ENTRY_DIR || strlen(t->first) != n || memcmp(t->first, e->path, n) != 0)
        return mvm_error_set(err, -EPROTO, "'%.100s' came besides what was asked for", e->path);
    return 0;
}

static int on_entry(struct tree_receiver *t, const void *p, size_t n, struct mvm_error *err)
{
    int r = finish_file(t, err);
    if (r < 0)
        return r;
    if (!t->entry && !(t->entry = malloc(sizeof(*t->entry))))
        return mvm_error_errno(err, -ENOMEM, "tree");
    struct msg_entry *e = t->entry;
    memset(e, 0, sizeof(*e));
    r = msg_entry_decode(e, p, n);
    if (r < 0)
        return mvm_error_errno(err, r, "entry of a tree");
    if (++t->entries > t->limits.max_entries)
        return mvm_error_set(err, -EFBIG, "more than %llu files", (unsigned long long)t->limits.max_entries);
    if (!path_is_safe_relative(e->path))
        return mvm_error_set(err, -EPROTO, "path '%.100s' leaves the tree", e->path);
    r = check_top(t, e, err);
    if (r < 0)
        return r;
    if (t->top && !rename_top(e->path, t->top))
        return mvm_error_set(err, -ENAMETOOLONG, "path '%.100s' is too long", e->path);
    switch (e->kind) {
    case ENTRY_FILE:
        return begin_file(t, e, err);
    case ENTRY_DIR:
        return make_dir(t, e, err);
    case ENTRY_SYMLINK:
        return make_symlink(t, e, err);
    default:
        return mvm_error_set(err, -EPROTO, "%s: neither file, folder nor symlink", e->path);
    }
}

static int on_chunk(struct tree_receiver *t, const uint8_t *p, size_t n, struct mvm_error *err)
{
    if (t->fd < 0 || n <= TREE_CHUNK_HEADER || n > TREE_CHUNK_HEADER + TREE_MAX_CHUNK)
        return mvm_error_set(err, -EPROTO, "data that belongs to no file");
    uint64_t offset = load_u64(p), sum = load_u64(p + 8);
    p += TREE_CHUNK_HEADER;
    n -= TREE_CHUNK_HEADER;
    const char *path = t->entry->path;
    if (offset < t->at || offset > t->size || n > t->size - offset)
        return mvm_error_set(err, -EPROTO, "%s: data out of order", path);
    if (n > t->limits.max_bytes - MIN_OF(t->bytes, t->limits.max_bytes))
        return mvm_error_set(err, -EFBIG, "more than %llu bytes", (unsigned long long)t->limits.max_bytes);
    if (tree_checksum(p, n) != sum)
        return mvm_error_set(err, -EBADMSG, "%s: damaged on its way", path);
    int r = fd_pwrite_all(t->fd, p, n, offset);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot write %s", path);
    tell_content(t, NULL, offset - t->at);
    tell_content(t, p, n);
    t->at = offset + n;
    t->bytes += n;
    return 0;
}

static int take_record(struct tree_receiver *t, uint8_t channel, const void *p, size_t n, struct mvm_error *err)
{
    if (t->failed || t->complete)
        return mvm_error_set(err, -EPROTO, "data behind the end of the tree");
    if (channel == CHAN_TREE)
        return on_chunk(t, p, n, err);
    struct msg_reader r;
    if (channel != CHAN_MSG || msg_open(&r, p, n) < 0 || (r.type != MSG_ENTRY && r.type != MSG_END))
        return mvm_error_set(err, -EPROTO, "record that does not belong to a tree");
    if (r.type == MSG_ENTRY)
        return on_entry(t, p, n, err);
    int e = finish_file(t, err);
    t->complete = e == 0;
    return e;
}

int tree_receive(struct tree_receiver *t, uint8_t channel, const void *p, size_t n, struct mvm_error *err)
{
    int r = take_record(t, channel, p, n, err);
    if (r < 0) {
        t->failed = true;
        discard_file(t);
    }
    return r;
}

void tree_receiver_done(struct tree_receiver *t)
{
    discard_file(t);
    fd_closep(&t->parent);
    free(t->parent_path);
    t->parent_path = NULL;
    free(t->entry);
    t->entry = NULL;
}
