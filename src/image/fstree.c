#include "image/fstree.h"
#include "base/fd.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 256
/* A symlink's target must fit one block with its NUL (ext4) and PATH_MAX. */
#define MAX_TARGET 4095

/* Takes a node that leaves the tree, and all below it, out of the tree's sums. */
static void uncount(struct fstree *t, const struct fsnode *n)
{
    t->n_nodes--;
    t->total_bytes -= n->size;
    for (size_t i = 0; i < n->n_children; i++)
        uncount(t, n->children[i]);
}

int fstree_init(struct fstree *t)
{
    *t = (struct fstree){.root = fsnode_new("", 0, FSNODE_DIR, 0755), .n_nodes = 1};
    return t->root ? 0 : -ENOMEM;
}

void fstree_done(struct fstree *t)
{
    fsnode_free(t->root);
    *t = (struct fstree){0};
}

/* Puts n among dir's children; the tree owns it then, also on failure. A folder over a folder is
 * merged: *ret is the node that stays. */
static int adopt(struct fstree *t, struct fsnode *dir, struct fsnode *node, struct fsnode **ret)
{
    CLEAN_FSNODE struct fsnode *n = node;
    bool found;
    size_t i = fsnode_child_index(dir, n->name, strlen(n->name), &found);
    if (found && dir->children[i]->kind == FSNODE_DIR && n->kind == FSNODE_DIR) {
        dir->children[i]->mode = n->mode;
        if (ret)
            *ret = dir->children[i];
        return 0;
    }
    if (found) {
        uncount(t, dir->children[i]);
        fsnode_free(dir->children[i]);
    } else {
        /* Room is doubled whenever the count reaches a power of two. */
        size_t have = dir->n_children;
        if ((have & (have - 1)) == 0) {
            struct fsnode **more = reallocarray(dir->children, have ? have * 2 : 1, sizeof(*more));
            if (!more)
                return -ENOMEM;
            dir->children = more;
        }
        memmove(dir->children + i + 1, dir->children + i, (have - i) * sizeof(*dir->children));
        dir->n_children++;
    }
    t->n_nodes++;
    t->total_bytes += n->size;
    if (ret)
        *ret = n;
    dir->children[i] = TAKE_PTR(n);
    return 0;
}

static const char *skip_slashes(const char *path)
{
    return path + strspn(path, "/");
}

/* The folder that path's last component goes into; *last points to that component. Missing folders
 * are made. */
static int make_parent(struct fstree *t, const char *path, struct fsnode **ret, const char **last,
                       struct mvm_error *err)
{
    const char *s = skip_slashes(path);
    if (*s == '\0')
        return mvm_error_set(err, -EISDIR, "the image's root must be a folder");
    if (!path_is_safe_relative(s))
        return mvm_error_set(err, -EINVAL, "unsafe path in image: %s", path);
    struct fsnode *dir = t->root;
    for (const char *slash; (slash = strchr(s, '/')); s = slash + 1) {
        bool found;
        size_t i = fsnode_child_index(dir, s, (size_t)(slash - s), &found);
        if (!found) {
            struct fsnode *n = fsnode_new(s, (size_t)(slash - s), FSNODE_DIR, 0755);
            int r = n ? adopt(t, dir, n, &dir) : -ENOMEM;
            if (r < 0)
                return mvm_error_errno(err, r, "image tree");
            continue;
        }
        dir = dir->children[i];
        if (dir->kind != FSNODE_DIR)
            return mvm_error_set(err, -ENOTDIR, "in image: %.*s is no folder, cannot add %s", (int)(slash - path), path,
                                 path);
    }
    *ret = dir;
    *last = s;
    return 0;
}

/* Makes a node for path, not yet in the tree, and finds the folder it belongs to. */
static int prepare(struct fstree *t, const char *path, enum fsnode_kind kind, mode_t mode, struct fsnode **dir,
                   struct fsnode **ret, struct mvm_error *err)
{
    const char *name = "";
    int r = make_parent(t, path, dir, &name, err);
    if (r < 0)
        return r;
    *ret = fsnode_new(name, strlen(name), kind, mode);
    return *ret ? 0 : mvm_error_errno(err, -ENOMEM, "image tree");
}

static int finish(struct fstree *t, struct fsnode *dir, struct fsnode *n, struct mvm_error *err)
{
    int r = adopt(t, dir, n, NULL);
    return r < 0 ? mvm_error_errno(err, r, "image tree") : 0;
}

/* The folder at path, made where it is missing, with that mode. */
static int make_dir(struct fstree *t, const char *path, mode_t mode, struct fsnode **ret, struct mvm_error *err)
{
    if (*skip_slashes(path) == '\0') {
        t->root->mode = mode & 07777;
        *ret = t->root;
        return 0;
    }
    struct fsnode *dir, *n;
    int r = prepare(t, path, FSNODE_DIR, mode, &dir, &n, err);
    if (r < 0)
        return r;
    r = adopt(t, dir, n, ret);
    return r < 0 ? mvm_error_errno(err, r, "image tree") : 0;
}

int fstree_add_dir(struct fstree *t, const char *path, mode_t mode, struct mvm_error *err)
{
    struct fsnode *n;
    return make_dir(t, path, mode, &n, err);
}

int fstree_add_memory(struct fstree *t, const char *path, mode_t mode, const void *p, size_t n, struct mvm_error *err)
{
    struct fsnode *dir = NULL;
    CLEAN_FSNODE struct fsnode *node = NULL;
    int r = prepare(t, path, FSNODE_FILE, mode, &dir, &node, err);
    if (r < 0)
        return r;
    node->size = n;
    node->memory = malloc(n ? n : 1);
    if (!node->memory)
        return mvm_error_errno(err, -ENOMEM, "image tree");
    if (n)
        memcpy(node->memory, p, n);
    return finish(t, dir, TAKE_PTR(node), err);
}

int fstree_add_file(struct fstree *t, const char *path, mode_t mode, const char *source, struct mvm_error *err)
{
    struct stat st;
    if (stat(source, &st) < 0)
        return mvm_error_errno(err, -errno, "%s", source);
    if (!S_ISREG(st.st_mode))
        return mvm_error_set(err, -EINVAL, "%s: not a regular file", source);
    struct fsnode *dir = NULL;
    CLEAN_FSNODE struct fsnode *node = NULL;
    int r = prepare(t, path, FSNODE_FILE, mode, &dir, &node, err);
    if (r < 0)
        return r;
    node->size = (uint64_t)st.st_size;
    node->source = strdup(source);
    if (!node->source)
        return mvm_error_errno(err, -ENOMEM, "image tree");
    return finish(t, dir, TAKE_PTR(node), err);
}

int fstree_add_symlink(struct fstree *t, const char *path, const char *target, struct mvm_error *err)
{
    size_t len = strlen(target);
    if (len == 0 || len > MAX_TARGET)
        return mvm_error_set(err, -EINVAL, "symlink %s: target of %zu bytes", path, len);
    struct fsnode *dir = NULL;
    CLEAN_FSNODE struct fsnode *node = NULL;
    int r = prepare(t, path, FSNODE_SYMLINK, 0777, &dir, &node, err);
    if (r < 0)
        return r;
    node->target = strdup(target);
    if (!node->target)
        return mvm_error_errno(err, -ENOMEM, "image tree");
    return finish(t, dir, TAKE_PTR(node), err);
}

int fstree_add_char(struct fstree *t, const char *path, mode_t mode, unsigned major, unsigned minor,
                    struct mvm_error *err)
{
    struct fsnode *dir, *node;
    int r = prepare(t, path, FSNODE_CHAR, mode, &dir, &node, err);
    if (r < 0)
        return r;
    node->major = major;
    node->minor = minor;
    return finish(t, dir, node, err);
}

struct fsnode *fstree_find(const struct fstree *t, const char *path)
{
    struct fsnode *n = t->root;
    for (const char *s = skip_slashes(path); n && *s; s = skip_slashes(s)) {
        size_t len = strcspn(s, "/");
        bool found;
        size_t i = fsnode_child_index(n, s, len, &found);
        n = found ? n->children[i] : NULL;
        s += len;
    }
    return n;
}

static void drop_below(struct fstree *t, struct fsnode *dir, const char *pattern)
{
    char part[256];
    size_t n = strcspn(pattern, "/");
    snprintf(part, sizeof(part), "%.*s", (int)MIN_OF(n, sizeof(part) - 1), pattern);
    const char *rest = skip_slashes(pattern + n);
    size_t kept = 0;
    for (size_t i = 0; i < dir->n_children; i++) {
        struct fsnode *child = dir->children[i];
        bool matches = fnmatch(part, child->name, 0) == 0;
        if (matches && !*rest) {
            uncount(t, child);
            fsnode_free(child);
            continue;
        }
        if (matches && child->kind == FSNODE_DIR)
            drop_below(t, child, rest);
        dir->children[kept++] = child;
    }
    /* Room for a power of two of children is what adopt() counts on. */
    if (kept < dir->n_children) {
        size_t room = 1;
        while (room < kept)
            room *= 2;
        struct fsnode **less = reallocarray(dir->children, room, sizeof(*less));
        if (less)
            dir->children = less;
        dir->n_children = kept;
    }
}

void fstree_drop(struct fstree *t, const char *pattern)
{
    if (*skip_slashes(pattern))
        drop_below(t, t->root, skip_slashes(pattern));
}

mode_t fstree_plain_mode(mode_t mode)
{
    return S_ISDIR(mode) || mode & 0100 ? 0755 : 0644;
}

struct walk {
    struct fstree *tree;
    const char *source; /* the folder that is added */
    bool (*exclude)(const char *path, void *data);
    void *data;
    bool plain; /* modes */
    struct mvm_error *err;
};

static int walk_dir(struct walk *w, int fd, const char *rel, struct fsnode *to, unsigned depth);

/* Files with several names are told by device and inode number; the number is kept as it is within
 * one device, so that only files of different devices could ever be confused, with a chance of one
 * in 2^64. */
static uint64_t link_id(const struct stat *st)
{
    uint64_t x = (uint64_t)st->st_dev + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x = (x ^ (x >> 31)) ^ (uint64_t)st->st_ino;
    return x ? x : 1;
}

static int walk_symlink(struct walk *w, int dirfd, const char *name, struct fsnode *n, const char *rel)
{
    char target[MAX_TARGET + 1];
    ssize_t len = readlinkat(dirfd, name, target, sizeof(target));
    if (len < 0)
        return mvm_error_errno(w->err, -errno, "cannot read %s/%s", w->source, rel);
    if (len == 0 || (size_t)len > MAX_TARGET)
        return mvm_error_set(w->err, -EINVAL, "%s/%s: symlink too long", w->source, rel);
    n->target = strndup(target, (size_t)len);
    return n->target ? 0 : mvm_error_errno(w->err, -ENOMEM, "image tree");
}

/* What an entry of a plain tree gets: a folder that is there keeps its mode. */
static mode_t plain_mode_in(const struct fsnode *dir, const char *name, mode_t mode)
{
    bool found;
    size_t i = fsnode_child_index(dir, name, strlen(name), &found);
    if (found && S_ISDIR(mode) && dir->children[i]->kind == FSNODE_DIR)
        return dir->children[i]->mode;
    return fstree_plain_mode(mode);
}

static int walk_entry(struct walk *w, int dirfd, const char *name, const char *rel, struct fsnode *to, unsigned depth)
{
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return mvm_error_errno(w->err, -errno, "cannot read %s/%s", w->source, rel);
    enum fsnode_kind kind = S_ISDIR(st.st_mode) ? FSNODE_DIR : S_ISLNK(st.st_mode) ? FSNODE_SYMLINK : FSNODE_FILE;
    if (kind == FSNODE_FILE && !S_ISREG(st.st_mode))
        return 0;
    mode_t mode = w->plain && kind != FSNODE_SYMLINK ? plain_mode_in(to, name, st.st_mode) : st.st_mode;
    CLEAN_FSNODE struct fsnode *n = fsnode_new(name, strlen(name), kind, mode);
    if (!n)
        return mvm_error_errno(w->err, -ENOMEM, "image tree");
    int r = 0;
    if (kind == FSNODE_SYMLINK)
        r = walk_symlink(w, dirfd, name, n, rel);
    if (kind == FSNODE_FILE) {
        n->size = (uint64_t)st.st_size;
        n->hardlink_id = st.st_nlink > 1 ? link_id(&st) : 0;
        n->source = path_join(w->source, rel, NULL);
        r = n->source ? 0 : mvm_error_errno(w->err, -ENOMEM, "image tree");
    }
    struct fsnode *stays = NULL;
    if (r == 0 && (r = adopt(w->tree, to, TAKE_PTR(n), &stays)) < 0)
        return mvm_error_errno(w->err, r, "image tree");
    if (r < 0 || kind != FSNODE_DIR)
        return r;
    CLEAN_FD int sub = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub < 0)
        return mvm_error_errno(w->err, -errno, "cannot read %s/%s", w->source, rel);
    return walk_dir(w, sub, rel, stays, depth + 1);
}

static int skip_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

/* Not alphasort(): that one follows the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int walk_dir(struct walk *w, int fd, const char *rel, struct fsnode *to, unsigned depth)
{
    if (depth > MAX_DEPTH)
        return mvm_error_set(w->err, -ELOOP, "%s/%s: folders too deep", w->source, rel);
    struct dirent **list = NULL;
    int n = scandirat(fd, ".", &list, skip_dots, by_name);
    if (n < 0)
        return mvm_error_errno(w->err, -errno, "cannot read %s/%s", w->source, rel);
    int r = 0;
    for (int i = 0; i < n; i++) {
        if (r == 0) {
            CLEAN_FREE char *path = *rel ? path_join(rel, list[i]->d_name, NULL) : strdup(list[i]->d_name);
            if (!path)
                r = mvm_error_errno(w->err, -ENAMETOOLONG, "%s/%s", w->source, rel);
            else if (!w->exclude || !w->exclude(path, w->data))
                r = walk_entry(w, fd, list[i]->d_name, path, to, depth);
        }
        free(list[i]);
    }
    free(list);
    return r;
}

/* mode: of the folder at path; 0: its source's. */
static int add_tree(struct fstree *t, const char *path, mode_t mode, struct walk *w)
{
    CLEAN_FD int fd = open(w->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return mvm_error_errno(w->err, -errno, "cannot read folder %s", w->source);
    struct fsnode *to;
    int r = make_dir(t, path, mode ? mode : st.st_mode, &to, w->err);
    return r < 0 ? r : walk_dir(w, fd, "", to, 0);
}

int fstree_add_tree(struct fstree *t, const char *path, const char *source,
                    bool (*exclude)(const char *path, void *data), void *data, struct mvm_error *err)
{
    struct walk w = {.tree = t, .source = source, .exclude = exclude, .data = data, .err = err};
    return add_tree(t, path, 0, &w);
}

int fstree_add_plain_tree(struct fstree *t, const char *path, const char *source, struct mvm_error *err)
{
    struct walk w = {.tree = t, .source = source, .plain = true, .err = err};
    const struct fsnode *there = fstree_find(t, path);
    return add_tree(t, path, there && there->kind == FSNODE_DIR ? there->mode : 0755, &w);
}
