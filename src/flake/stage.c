#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "flake/flake.h"
#include "flake/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LOCK  (4u << 20)
#define LOCK_NAME "flake.lock"

void flake_tree_fingerprint(const struct flake_tree *t, struct fingerprint *f)
{
    for (size_t i = 0; i < t->n_files; i++) {
        const struct flake_file *file = &t->files[i];
        fingerprint_add_string(f, "path", file->path);
        fingerprint_add_string(f, "kind",
                               file->kind == ENTRY_DIR       ? "folder"
                               : file->kind == ENTRY_SYMLINK ? "link"
                               : file->executable            ? "program"
                                                             : "file");
        fingerprint_add_string(f, "content", file->kind == ENTRY_SYMLINK ? file->target : file->digest);
    }
    /* Commits are few; the age of a folder moves whenever a file is saved, and is no reason to build again. */
    if (t->git) {
        fingerprint_add_string(f, "rev", t->rev);
        fingerprint_add(f, "last-modified", &t->last_modified, sizeof(t->last_modified));
    }
}

/* ---- Sending ---- */

/* Where a tree goes: the sender, and the folder that its paths are put below. */
struct target {
    struct tree_sender *s;
    const char *into;
    const struct registry *flakes;
};

/* The caller frees. */
static char *target_path(const struct target *to, const char *path)
{
    return path_join(to->into, path, NULL);
}

/* Sends the folders of path that the one before it did not have. */
static int send_parents(const struct target *to, const char *before, const char *path, struct mvm_error *err)
{
    size_t same = 0;
    for (size_t i = 0; before[i] && before[i] == path[i]; i++)
        if (path[i] == '/')
            same = i + 1;
    for (const char *slash = strchr(path + same, '/'); slash; slash = strchr(slash + 1, '/')) {
        CLEAN_FREE char *dir = strndup(path, (size_t)(slash - path));
        CLEAN_FREE char *full = dir ? target_path(to, dir) : NULL;
        int r = full ? tree_send_dir(to->s, full, 0755, err) : -ENOMEM;
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_lock(const struct flake_tree *t, const char *path, const struct target *to, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_LOCK);
    CLEAN_BUF struct buf staged = BUF_INIT(2 * MAX_LOCK);
    int r = path_read_file(t->root_fd, t->lock_path, &text, err);
    if (r == 0)
        r = flake_lock_stage(buf_cstr(&text), text.len, to->flakes, &staged, err);
    return r < 0 ? r : tree_send_memory(to->s, path, 0644, buf_cstr(&staged), staged.len, err);
}

bool flake_file_key(const struct flake_tree *t, const struct flake_file *f, uint8_t key[static TREE_KEY_SIZE])
{
    if (f->kind != ENTRY_FILE || strcmp(f->path, t->lock_path) == 0)
        return false;
    sha256_parse(f->digest, key);
    key[SHA256_SIZE] = f->executable;
    return true;
}

static int send_file(const struct flake_tree *t, const struct flake_file *f, const struct target *to,
                     struct mvm_error *err)
{
    CLEAN_FREE char *path = target_path(to, f->path);
    if (!path)
        return mvm_error_errno(err, -ENOMEM, "flake");
    if (f->kind == ENTRY_SYMLINK)
        return tree_send_symlink(to->s, path, f->target, err);
    if (f->kind == ENTRY_DIR)
        return tree_send_dir(to->s, path, 0755, err);
    if (to->flakes && strcmp(f->path, t->lock_path) == 0)
        return send_lock(t, path, to, err);
    CLEAN_FD int fd = os_open_beneath(t->root_fd, f->path, O_RDONLY | O_NONBLOCK, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return mvm_error_errno(err, fd < 0 ? fd : -errno, "cannot read %s in the flake's tree", f->path);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->size)
        return mvm_error_set(err, -ESTALE, "%s changed while the flake was being staged", f->path);
    uint8_t key[TREE_KEY_SIZE];
    return flake_file_key(t, f, key) ? tree_send_keyed(to->s, path, fd, key, f->kept, err)
                                     : tree_send_file(to->s, path, fd, err);
}

int flake_tree_send(const struct flake_tree *t, const char *into, const struct registry *flakes, struct tree_sender *s,
                    struct mvm_error *err)
{
    const struct target to = {.s = s, .into = into, .flakes = flakes};
    const char *before = "";
    int r = tree_send_dir(s, into, 0755, err);
    for (size_t i = 0; r == 0 && i < t->n_files; i++) {
        r = send_parents(&to, before, t->files[i].path, err);
        if (r == 0)
            r = send_file(t, &t->files[i], &to, err);
        before = t->files[i].path;
    }
    return r;
}

int flake_tree_send_lock(const struct flake_tree *t, const char *path, const struct registry *flakes,
                         struct tree_sender *s, struct mvm_error *err)
{
    const struct target to = {.s = s, .flakes = flakes};
    for (size_t i = 0; i < t->n_files; i++)
        if (t->files[i].kind == ENTRY_FILE && strcmp(t->files[i].path, t->lock_path) == 0)
            return send_lock(t, path, &to, err);
    return 0;
}

static int add_line(void *data, const char *path)
{
    return buf_printf(data, "%s\n", path);
}

/* Do both name the same local folders? Their nodes are not compared otherwise. */
static bool same_folders(const struct buf *old, const void *p, size_t n)
{
    CLEAN_BUF struct buf a = BUF_INIT(1u << 20);
    CLEAN_BUF struct buf b = BUF_INIT(1u << 20);
    return flake_lock_paths(buf_cstr(old), old->len, add_line, &a) == 0 && flake_lock_paths(p, n, add_line, &b) == 0 &&
           strcmp(buf_cstr(&a), buf_cstr(&b)) == 0;
}

static int cannot_write(const struct flake_ref *f, int r, struct mvm_error *err)
{
    mvm_error_wrap(err, "the flake's inputs are to be locked in %s", f->id);
    mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
    mvm_error_hint(err, "--no-write-lock-file builds without writing there");
    return r;
}

int flake_write_lock(const struct flake_ref *f, const void *p, size_t n, struct mvm_error *err)
{
    CLEAN_FD int dir = open(f->text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return cannot_write(f, mvm_error_errno(err, -errno, "cannot write flake.lock"), err);
    CLEAN_BUF struct buf old = BUF_INIT(MAX_LOCK);
    CLEAN_BUF struct buf old_stripped = BUF_INIT(2 * MAX_LOCK);
    CLEAN_BUF struct buf new_stripped = BUF_INIT(2 * MAX_LOCK);
    struct stat st = {.st_mode = S_IFREG | 0644};
    bool exists = fstatat(dir, LOCK_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (exists && !S_ISREG(st.st_mode))
        return cannot_write(f, mvm_error_set(err, -EINVAL, "cannot write flake.lock: it is no regular file"), err);
    if (flake_lock_check(p, n, f->text, NULL) < 0)
        return cannot_write(f, mvm_error_set(err, -EPROTO, "what the builder sent is no lock file"), err);
    if (flake_lock_is_dirty(p, n))
        return 0;
    if (exists && path_read_file(dir, LOCK_NAME, &old, NULL) == 0) {
        int r = flake_lock_strip(buf_cstr(&old), old.len, &old_stripped, err);
        if (r == 0)
            r = flake_lock_strip(p, n, &new_stripped, err);
        /* Only the builder's own nodes moved, or the content of local folders: no change to the user's flake. */
        if (r == 0 && same_folders(&old, p, n) && flake_lock_same(&old_stripped, &new_stripped))
            return 0;
    } else if (!flake_lock_has_inputs(p, n)) {
        return 0;
    }
    int r = f->repo ? mvm_error_set(err, -EROFS, "a commit's flake.lock cannot be written")
                    : path_write_file(dir, LOCK_NAME, p, n, st.st_mode & 0777, false, err);
    return r < 0 ? cannot_write(f, r, err) : 0;
}
