#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/statindex.h"
#include "flake/flake.h"
#include "flake/git.h"
#include "flake/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES 200000
#define MAX_BYTES (4ull << 30)
#define MAX_LOCK  (4u << 20)
#define MAX_DEPTH 64
#define LOCK_NAME "flake.lock"

struct lister {
    struct flake_tree *t;
    struct statindex *index;
    const char *lock_path; /* relative path of the flake's own lock file */
    size_t cap;
    struct mvm_error *err;
};

/* ---- One file ---- */

static int digest_file(struct lister *l, struct flake_file *f, const struct stat *st)
{
    uint64_t read_at = clock_wall();
    if (statindex_get(l->index, f->path, st, f->digest))
        return 0;
    CLEAN_FD int fd = path_open_beneath(l->t->root_fd, f->path, O_RDONLY | O_NONBLOCK, 0);
    int r = fd < 0 ? fd : 0;
    /* The lock file counts without what the builder provides. */
    if (r == 0 && strcmp(f->path, l->lock_path) == 0) {
        CLEAN_BUF struct buf text = BUF_INIT(MAX_LOCK);
        CLEAN_BUF struct buf stripped = BUF_INIT(2 * MAX_LOCK);
        struct fingerprint p;
        ssize_t n;
        while ((n = buf_read(&text, fd, 65536)) > 0)
            ;
        r = n < 0 ? (int)n : flake_lock_strip(buf_cstr(&text), text.len, &stripped, l->err);
        if (r == 0) {
            fingerprint_init(&p, "flake.lock");
            fingerprint_add(&p, "text", stripped.data, stripped.len);
            fingerprint_final(&p, f->digest);
        }
    } else if (r == 0) {
        r = sha256_fd(fd, f->digest);
    }
    if (r < 0)
        return mvm_error_errno(l->err, r, "cannot read %s in the flake's tree", f->path);
    statindex_put(l->index, f->path, st, read_at, f->digest);
    return 0;
}

static int fill_file(struct lister *l, struct flake_file *f, const struct stat *st)
{
    char target[4096];
    if (S_ISREG(st->st_mode)) {
        f->kind = ENTRY_FILE;
        f->executable = st->st_mode & 0100;
        f->size = (uint64_t)st->st_size;
        l->t->bytes += f->size;
        if (l->t->bytes > MAX_BYTES)
            return mvm_error_set(l->err, -EFBIG, "the flake's tree is larger than %llu GiB", MAX_BYTES >> 30);
        return digest_file(l, f, st);
    }
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(l->t->root_fd, f->path, target, sizeof(target) - 1);
        if (n < 0)
            return mvm_error_errno(l->err, -errno, "cannot read %s in the flake's tree", f->path);
        target[n] = '\0';
        f->kind = ENTRY_SYMLINK;
        f->target = strdup(target);
        return f->target ? 0 : mvm_error_errno(l->err, -ENOMEM, "flake");
    }
    return mvm_error_set(l->err, -EINVAL, "%s in the flake's tree is a %s: neither file, folder nor symlink", f->path,
                         S_ISSOCK(st->st_mode)   ? "socket"
                         : S_ISFIFO(st->st_mode) ? "fifo"
                                                 : "device");
}

static int add_path(struct lister *l, const char *path, const struct stat *st)
{
    struct flake_tree *t = l->t;
    if (t->n_files == MAX_FILES)
        return mvm_error_set(l->err, -EFBIG, "the flake's tree has more than %d files", MAX_FILES);
    if (!path_is_safe_relative(path))
        return mvm_error_set(l->err, -EINVAL, "path '%.200s' in the flake's tree cannot be staged", path);
    if (t->n_files == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        struct flake_file *more = reallocarray(t->files, cap, sizeof(*more));
        if (!more)
            return mvm_error_errno(l->err, -ENOMEM, "flake");
        t->files = more;
        l->cap = cap;
    }
    struct flake_file *f = &t->files[t->n_files];
    *f = (struct flake_file){.path = strdup(path)};
    if (!f->path)
        return mvm_error_errno(l->err, -ENOMEM, "flake");
    t->n_files++;
    if (strcmp(path, l->lock_path) != 0 && st->st_mtime > 0)
        t->last_modified = MAX_OF(t->last_modified, (uint64_t)st->st_mtime);
    return fill_file(l, f, st);
}

/* ---- Listing: git's tracked files, or the folder ---- */

/* What is at a tracked path, never through a symlink. False: nothing, it is not there for Nix either. */
static int look_at(struct lister *l, const char *path, struct stat *st, bool *there)
{
    CLEAN_FD int fd = path_open_beneath(l->t->root_fd, path, O_PATH | O_NOFOLLOW, 0);
    int r = fd < 0 ? fd : fstat(fd, st) < 0 ? -errno : 0;
    *there = r == 0;
    if (r == 0 || r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
        return 0;
    return mvm_error_errno(l->err, r, "cannot read %s in the flake's tree", path);
}

static int add_tracked(struct lister *l, const char *path)
{
    struct stat st;
    bool there = false;
    int r = look_at(l, path, &st, &there);
    return r < 0 || !there || S_ISDIR(st.st_mode) ? r : add_path(l, path, &st);
}

static int list_repo(struct lister *l, const struct flake_ref *f, const char *folder, unsigned depth);

/* A submodule that is checked out; another is an empty folder. */
static int list_submodule(struct lister *l, const struct flake_ref *f, const char *path, unsigned depth)
{
    CLEAN_FREE char *git = path_join(path, ".git", NULL);
    struct stat st;
    bool there = false;
    int r = git ? look_at(l, git, &st, &there) : -ENOMEM;
    if (r == 0 && there && depth == MAX_DEPTH)
        r = mvm_error_set(l->err, -ELOOP, "submodules in the flake's tree are too deep at %s", path);
    return r < 0 || !there ? r : list_repo(l, f, path, depth + 1);
}

/* What git tracks in a folder of the tree: the top, or a submodule. */
static int list_repo(struct lister *l, const struct flake_ref *f, const char *folder, unsigned depth)
{
    CLEAN_GIT_REPO struct git_repo repo = {0};
    CLEAN_BUF struct buf out = BUF_INIT(64u << 20);
    CLEAN_FREE char *root = *folder ? path_join(f->root, folder, NULL) : strdup(f->root);
    int r = root ? git_repo_open(&repo, root, f->root, &f->allow, l->err) : -ENOMEM;
    if (r == 0)
        r = git_list(&repo, &out, l->err);
    const char *entry;
    for (size_t at = 0; r == 0 && at < out.len; at += strlen(entry) + 1) {
        entry = (const char *)out.data + at;
        const char *name = entry + strcspn(entry, " ") + 1;
        CLEAN_FREE char *path = *folder ? path_join(folder, name, NULL) : strdup(name);
        if (!path)
            r = mvm_error_errno(l->err, -ENOMEM, "flake");
        else if (!path_is_safe_relative(path) || strncmp(path, ".git/", 5) == 0)
            r = mvm_error_set(l->err, -EINVAL, "path '%.200s' in the git index cannot be staged", path);
        else if (strtoul(entry, NULL, 8) != GIT_MODE_COMMIT)
            r = add_tracked(l, path);
        else if (f->submodules)
            r = list_submodule(l, f, path, depth);
    }
    return r;
}

static int list_git(struct lister *l, const struct flake_ref *f)
{
    CLEAN_FREE char *flake = *f->subdir ? path_join(f->subdir, "flake.nix", NULL) : strdup("flake.nix");
    bool tracked = false;
    int r = flake ? list_repo(l, f, "", 0) : -ENOMEM;
    for (size_t i = 0; r == 0 && i < l->t->n_files; i++)
        tracked |= strcmp(l->t->files[i].path, flake) == 0;
    if (r == 0 && !tracked) {
        mvm_error_set(l->err, -ENOENT, "%s is not tracked by git, and Nix takes tracked files only", flake);
        mvm_error_hint(l->err, "git -C %s add %s", f->root, flake);
        r = -ENOENT;
    }
    return r;
}

static int list_folder(struct lister *l, int parent, const char *name, const char *path, unsigned depth)
{
    int fd = depth < MAX_DEPTH ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d)
        return mvm_error_errno(l->err, depth < MAX_DEPTH ? -errno : -ELOOP, "cannot read %s in the flake's tree",
                               *path ? path : "the top");
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        CLEAN_FREE char *sub = *path ? path_join(path, e->d_name, NULL) : strdup(e->d_name);
        if (!sub || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            r = mvm_error_errno(l->err, sub ? -errno : -ENOMEM, "cannot read the flake's tree");
        else if (S_ISDIR(st.st_mode))
            r = list_folder(l, fd, e->d_name, sub, depth + 1);
        else
            r = add_path(l, sub, &st);
    }
    closedir(d);
    return r;
}

/* Some files of the folder. */
static int list_only(struct lister *l, const char *names)
{
    CLEAN_FREE char *copy = strdup(names);
    char *rest = copy, *name;
    int r = copy ? 0 : mvm_error_errno(l->err, -ENOMEM, "flake");
    while (r == 0 && (name = strsep(&rest, "\n"))) {
        struct stat st;
        if (fstatat(l->t->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            r = mvm_error_errno(l->err, -errno, "cannot read the flake's input %s", name);
        else
            r = add_path(l, name, &st);
    }
    return r;
}

static int by_path(const void *a, const void *b)
{
    const struct flake_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static int load(struct flake_tree *t, const struct flake_ref *f, struct home *h, struct mvm_error *err)
{
    CLEAN_FREE char *lock = *f->subdir ? path_join(f->subdir, LOCK_NAME, NULL) : strdup(LOCK_NAME);
    struct lister l = {.t = t, .lock_path = lock, .err = err};
    t->root_fd = open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->root_fd < 0)
        return mvm_error_errno(err, -errno, "cannot open %s", f->root);
    l.index = lock ? statindex_load(h->cache_fd, f->root) : NULL;
    if (!l.index)
        return mvm_error_errno(err, -ENOMEM, "flake");
    int r = f->only ? list_only(&l, f->only) : f->git ? list_git(&l, f) : list_folder(&l, t->root_fd, ".", "", 0);
    if (t->n_files)
        qsort(t->files, t->n_files, sizeof(*t->files), by_path);
    if (r == 0)
        statindex_save(l.index);
    statindex_free(l.index);
    t->lock_path = TAKE_PTR(lock);
    return r;
}

int flake_tree_load(struct flake_tree *t, const struct flake_ref *f, struct home *h, struct mvm_error *err)
{
    *t = (struct flake_tree){.root_fd = -1};
    int r = load(t, f, h, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
        flake_tree_done(t);
    }
    return r;
}

void flake_tree_done(struct flake_tree *t)
{
    for (size_t i = 0; i < t->n_files; i++) {
        free(t->files[i].path);
        free(t->files[i].target);
    }
    free(t->files);
    free(t->lock_path);
    fd_closep(&t->root_fd);
    *t = (struct flake_tree){.root_fd = -1};
}

void flake_tree_fingerprint(const struct flake_tree *t, struct fingerprint *f)
{
    for (size_t i = 0; i < t->n_files; i++) {
        const struct flake_file *file = &t->files[i];
        fingerprint_add_string(f, "path", file->path);
        fingerprint_add_string(f, "kind", file->kind == ENTRY_SYMLINK ? "link" : file->executable ? "program" : "file");
        fingerprint_add_string(f, "content", file->kind == ENTRY_SYMLINK ? file->target : file->digest);
    }
}

/* ---- Sending ---- */

/* Where a tree goes: the sender, and the folder that its paths are put below. */
struct target {
    struct tree_sender *s;
    const char *into;
    const struct provided_flakes *flakes;
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

static int send_lock(const struct flake_tree *t, const struct flake_file *f, const char *path, const struct target *to,
                     struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_LOCK);
    CLEAN_BUF struct buf staged = BUF_INIT(2 * MAX_LOCK);
    int r = path_read_file(t->root_fd, f->path, &text, err);
    if (r == 0)
        r = flake_lock_stage(buf_cstr(&text), text.len, to->flakes, &staged, err);
    return r < 0 ? r : tree_send_memory(to->s, path, 0644, buf_cstr(&staged), staged.len, err);
}

bool flake_file_key(const struct flake_tree *t, const struct flake_file *f, uint8_t key[static TREE_KEY_SIZE])
{
    if (f->kind == ENTRY_SYMLINK || strcmp(f->path, t->lock_path) == 0)
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
    if (strcmp(f->path, t->lock_path) == 0)
        return send_lock(t, f, path, to, err);
    CLEAN_FD int fd = path_open_beneath(t->root_fd, f->path, O_RDONLY | O_NONBLOCK, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return mvm_error_errno(err, fd < 0 ? fd : -errno, "cannot read %s in the flake's tree", f->path);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->size)
        return mvm_error_set(err, -ESTALE, "%s changed while the flake was being staged", f->path);
    uint8_t key[TREE_KEY_SIZE];
    return flake_file_key(t, f, key) ? tree_send_keyed(to->s, path, fd, key, f->kept, err)
                                     : tree_send_file(to->s, path, fd, err);
}

int flake_tree_send(const struct flake_tree *t, const char *into, const struct provided_flakes *flakes,
                    struct tree_sender *s, struct mvm_error *err)
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
    mvm_error_wrap(err, "the flake's inputs are to be locked in %s", f->text);
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
    struct stat st = {.st_mode = 0644};
    if (fstatat(dir, LOCK_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && path_read_file(dir, LOCK_NAME, &old, NULL) == 0) {
        int r = flake_lock_strip(buf_cstr(&old), old.len, &old_stripped, err);
        if (r == 0)
            r = flake_lock_strip(p, n, &new_stripped, err);
        /* Only the builder's own nodes moved, or the content of local folders: no change to the user's flake. */
        if (r == 0 && same_folders(&old, p, n) && old_stripped.len == new_stripped.len &&
            memcmp(buf_cstr(&old_stripped), buf_cstr(&new_stripped), old_stripped.len) == 0)
            return 0;
    }
    int r = path_write_file(dir, LOCK_NAME, p, n, st.st_mode & 0777, false, err);
    return r < 0 ? cannot_write(f, r, err) : 0;
}
