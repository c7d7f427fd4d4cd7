#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "cache/statindex.h"
#include "flake/blob.h"
#include "flake/flake.h"
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
    bool git;              /* what git calls each file is wanted, too: */
    char id[GIT_REV_SIZE]; /* of the one that was added last */
    bool clean;            /* all is as in the commit that is checked out */
    struct mvm_error *err;
};

/* ---- One file ---- */

/* The lock file counts without what the builder provides. */
static int digest_lock(struct lister *l, int fd, struct flake_file *f)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_LOCK);
    CLEAN_BUF struct buf stripped = BUF_INIT(2 * MAX_LOCK);
    struct fingerprint p;
    ssize_t n;
    while ((n = buf_read(&text, fd, 65536)) > 0)
        ;
    int r = n < 0 ? (int)n : flake_lock_strip(buf_cstr(&text), text.len, &stripped, l->err);
    if (r < 0)
        return r;
    fingerprint_init(&p, "flake.lock");
    fingerprint_add(&p, "text", stripped.data, stripped.len);
    fingerprint_final(&p, f->digest);
    return 0;
}

/* In a git tree the index has both digests of a file: git's stands under a name that no file has. */
static int digest_file(struct lister *l, struct flake_file *f, const struct stat *st)
{
    uint64_t read_at = clock_wall();
    char id[SHA256_HEX_SIZE] = "";
    CLEAN_FREE char *name = path_join("/", f->path, NULL);
    if (!name)
        return mvm_error_errno(l->err, -ENOMEM, "flake");
    if (statindex_get(l->index, f->path, st, f->digest) && (!l->git || statindex_get(l->index, name, st, id))) {
        snprintf(l->id, sizeof(l->id), "%.*s", GIT_REV_SIZE - 1, id);
        return 0;
    }
    CLEAN_FD int fd = os_open_beneath(l->t->root_fd, f->path, O_RDONLY | O_NONBLOCK, 0);
    int r = fd < 0 ? fd : blob_digest_fd(fd, f->size, f->digest, l->id);
    if (r == 0 && strcmp(f->path, l->lock_path) == 0)
        r = digest_lock(l, fd, f);
    if (r < 0)
        return mvm_error_errno(l->err, r, "cannot read %s in the flake's tree", f->path);
    statindex_put(l->index, f->path, st, read_at, f->digest);
    snprintf(id, sizeof(id), "%s%024d", l->id, 0);
    if (l->git)
        statindex_put(l->index, name, st, read_at, id);
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
        blob_id(target, l->id);
        return f->target ? 0 : mvm_error_errno(l->err, -ENOMEM, "flake");
    }
    if (S_ISDIR(st->st_mode)) {
        f->kind = ENTRY_DIR;
        return 0;
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
    CLEAN_FD int fd = os_open_beneath(l->t->root_fd, path, O_PATH | O_NOFOLLOW, 0);
    int r = fd < 0 ? fd : fstat(fd, st) < 0 ? -errno : 0;
    *there = r == 0;
    if (r == 0 || r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
        return 0;
    return mvm_error_errno(l->err, r, "cannot read %s in the flake's tree", path);
}

/* An entry of the index. */
struct tracked {
    unsigned long mode;
    char id[GIT_REV_SIZE];
    const char *name;
};

static struct tracked parse_entry(const char *entry)
{
    struct tracked e;
    char *end;
    e.mode = strtoul(entry, &end, 8);
    snprintf(e.id, sizeof(e.id), "%s", end + 1);
    e.name = end + 1 + GIT_REV_SIZE;
    return e;
}

/* git's filters have no effect here: a file that they would change counts as changed. */
static bool is_unchanged(const struct lister *l, const struct tracked *e)
{
    const struct flake_file *f = &l->t->files[l->t->n_files - 1];
    bool link = e->mode == GIT_MODE_LINK;
    return strcmp(l->id, e->id) == 0 && link == (f->kind == ENTRY_SYMLINK) &&
           (link || f->executable == ((e->mode & 0100) != 0));
}

static int add_tracked(struct lister *l, const struct tracked *e, const char *path)
{
    struct stat st;
    bool there = false;
    int r = look_at(l, path, &st, &there);
    if (r == 0 && there && !S_ISDIR(st.st_mode))
        r = add_path(l, path, &st);
    else
        there = false;
    l->clean &= r == 0 && there && is_unchanged(l, e);
    return r;
}

static int list_repo(struct lister *l, const struct flake_ref *f, const char *folder, unsigned depth,
                     struct git_head *head);

/* A submodule that is checked out; another is an empty folder. */
static int list_submodule(struct lister *l, const struct flake_ref *f, const struct tracked *e, const char *path,
                          unsigned depth)
{
    struct git_head head = {0};
    CLEAN_FREE char *git = path_join(path, ".git", NULL);
    struct stat st;
    bool there = false;
    int r = git ? look_at(l, git, &st, &there) : -ENOMEM;
    if (r == 0 && there && depth == MAX_DEPTH)
        r = mvm_error_set(l->err, -ELOOP, "submodules in the flake's tree are too deep at %s", path);
    if (r == 0 && there)
        r = list_repo(l, f, path, depth + 1, &head);
    l->clean &= strcmp(head.rev, e->id) == 0;
    return r;
}

/* What git tracks in a folder of the tree: the top, or a submodule. */
static int list_repo(struct lister *l, const struct flake_ref *f, const char *folder, unsigned depth,
                     struct git_head *head)
{
    CLEAN_GIT_REPO struct git_repo repo = {0};
    CLEAN_BUF struct buf out = BUF_INIT(64u << 20);
    CLEAN_FREE char *root = *folder ? path_join(f->root, folder, NULL) : strdup(f->root);
    int r = root ? git_repo_open(&repo, root, f->root, &f->allow, l->err) : -ENOMEM;
    if (r == 0)
        r = git_list(&repo, &out, head, l->err);
    l->clean &= r == 0 && head->clean == 1;
    const char *entry;
    for (size_t at = 0; r == 0 && at < out.len; at += strlen(entry) + 1) {
        entry = (const char *)out.data + at;
        const struct tracked e = parse_entry(entry);
        CLEAN_FREE char *path = *folder ? path_join(folder, e.name, NULL) : strdup(e.name);
        if (!path)
            r = mvm_error_errno(l->err, -ENOMEM, "flake");
        else if (!path_is_safe_relative(path) || strncmp(path, ".git/", 5) == 0)
            r = mvm_error_set(l->err, -EINVAL, "path '%.200s' in the git index cannot be staged", path);
        else if (e.mode != GIT_MODE_COMMIT)
            r = add_tracked(l, &e, path);
        else if (f->submodules)
            r = list_submodule(l, f, &e, path, depth);
    }
    return r;
}

static int list_git(struct lister *l, const struct flake_ref *f)
{
    CLEAN_FREE char *flake = *f->subdir ? path_join(f->subdir, "flake.nix", NULL) : strdup("flake.nix");
    bool tracked = false;
    struct git_head head;
    l->git = l->clean = true;
    int r = flake ? list_repo(l, f, "", 0, &head) : -ENOMEM;
    for (size_t i = 0; r == 0 && i < l->t->n_files; i++)
        tracked |= strcmp(l->t->files[i].path, flake) == 0;
    if (r == 0 && !tracked) {
        mvm_error_set(l->err, -ENOENT, "%s is not tracked by git, and Nix takes tracked files only", flake);
        mvm_error_hint(l->err, "git -C %s add %s", f->root, flake);
        r = -ENOENT;
    }
    if (r == 0) {
        l->t->git = true;
        l->t->last_modified = head.time;
        snprintf(l->t->rev, sizeof(l->t->rev), "%s", l->clean ? head.rev : "");
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
    size_t before = l->t->n_files;
    struct stat st;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
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
    if (r == 0 && *path && l->t->n_files == before)
        r = fstat(fd, &st) < 0 ? -errno : add_path(l, path, &st);
    closedir(d);
    return r;
}

/* A commit that was written to a folder. */
static int list_checkout(struct lister *l, const struct flake_ref *f)
{
    const struct git_head *head = flake_checkout_head(f->checkout);
    int r = list_folder(l, l->t->root_fd, ".", "", 0);
    l->t->git = true;
    l->t->last_modified = head->time;
    snprintf(l->t->rev, sizeof(l->t->rev), "%s", head->rev);
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
    int r = f->only       ? list_only(&l, f->only)
            : f->checkout ? list_checkout(&l, f)
            : f->git      ? list_git(&l, f)
                          : list_folder(&l, t->root_fd, ".", "", 0);
    if (t->n_files)
        qsort(t->files, t->n_files, sizeof(*t->files), by_path);
    if (r == 0 && !f->checkout) /* which is gone soon */
        statindex_save(l.index);
    statindex_free(l.index);
    t->lock_path = TAKE_PTR(lock);
    return r;
}

int flake_tree_rev_count(const struct flake_tree *t, const struct flake_ref *f, uint64_t *ret, struct mvm_error *err)
{
    CLEAN_GIT_REPO struct git_repo repo = {0};
    *ret = 0;
    int r = t->rev[0] ? git_repo_open(&repo, f->repo ? f->repo : f->root, NULL, &f->allow, err) : 0;
    return r < 0 || !t->rev[0] ? r : git_count(&repo, t->rev, ret, err);
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
