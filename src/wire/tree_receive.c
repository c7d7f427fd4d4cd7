#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "wire/frame.h"
#include "wire/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v; /* both ends are little-endian machines */
}

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
    int fd = os_open_beneath(t->dirfd, n ? t->parent_path : ".", O_RDONLY | O_DIRECTORY, 0);
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
                         tree_kind_name(st.st_mode), tree_kind_name(types[e->kind]));
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
    return fd >= 0 ? fd : os_open_beneath(parent, part_name(t, name), O_WRONLY | O_CREAT | O_EXCL, mode);
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
    CLEAN_FD int fd = os_open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0);
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
