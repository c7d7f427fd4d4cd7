/*
 * The child that reads the repository writes the contents of a commit's files one behind the other into a file that is
 * open already, and lists them in its answer: "MODE SIZE PATH" and NUL each. What is made of that is decided here,
 * outside of the child: a path that leaves the folder, or leads over a symlink, is none.
 */
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "flake/confine.h"
#include "flake/git.h"
#include "flake/gitobject.h"
#include "flake/gitref.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LIST    (64u << 20)
#define MAX_ENTRIES 400000 /* folders count */
#define MAX_BYTES   (4ull << 30)
#define MAX_DEPTH   64
#define MAX_TAGS    5
#define CHUNK       (256u * 1024)
#define SPOOL       "spool"

/* ---- In the child ---- */

struct reading {
    const struct git_repo *g;
    const char *ref, *rev;
    int spool;
    struct git_store store;
    struct buf *out;
    uint64_t bytes;
    unsigned entries;
    struct mvm_error *err;
};

/* The commit that was named; a tag that is an object of its own names another object. */
static git_odb_object *read_commit(struct reading *r, git_oid *id)
{
    git_odb_object *o = git_store_read(&r->store, id, GIT_OBJECT_COMMIT);
    for (unsigned i = 0; !o && i < MAX_TAGS; i++) {
        git_odb_object *tag = git_store_read(&r->store, id, GIT_OBJECT_TAG);
        const char *text = tag ? r->store.lib->odb_object_data(tag) : "";
        size_t size = tag ? r->store.lib->odb_object_size(tag) : 0;
        bool parsed = size > 7 && strncmp(text, "object ", 7) == 0 && git_oid_parse(text + 7, size - 7, id);
        if (tag)
            r->store.lib->odb_object_free(tag);
        if (!parsed)
            break;
        o = git_store_read(&r->store, id, GIT_OBJECT_COMMIT);
    }
    return o;
}

static int missing(struct reading *r, const char *path)
{
    mvm_error_set(r->err, -ENOENT, "the git repository of %s lacks an object of the commit: %.300s", r->g->root, path);
    mvm_error_hint(r->err, "git -C %s fetch --refetch brings what a partial clone has left out", r->g->root);
    return -ENOENT;
}

static int put_blob(struct reading *r, const struct git_tree_entry *e, const char *path)
{
    git_odb_object *o = git_store_read(&r->store, &e->id, GIT_OBJECT_BLOB);
    if (!o)
        return missing(r, path);
    size_t size = r->store.lib->odb_object_size(o);
    r->bytes += size;
    int ret = r->bytes > MAX_BYTES ? -EFBIG : buf_printf(r->out, "%o %zu %s", e->mode, size, path);
    if (ret == 0)
        ret = buf_append(r->out, "", 1);
    if (ret == 0)
        ret = fd_write_all(r->spool, r->store.lib->odb_object_data(o), size);
    r->store.lib->odb_object_free(o);
    return ret;
}

static int put_tree(struct reading *r, const git_oid *id, const char *folder, unsigned depth);

static int put_entry(struct reading *r, const struct git_tree_entry *e, const char *folder, unsigned depth)
{
    CLEAN_FREE char *path = *folder ? path_join(folder, e->name, NULL) : strdup(e->name);
    if (!path || ++r->entries > MAX_ENTRIES)
        return path ? -EFBIG : -ENOMEM;
    if (e->mode == GIT_MODE_FOLDER)
        return put_tree(r, &e->id, path, depth + 1);
    if (e->mode != GIT_MODE_COMMIT)
        return put_blob(r, e, path);
    int ret = buf_printf(r->out, "%o 0 %s", e->mode, path);
    return ret < 0 ? ret : buf_append(r->out, "", 1);
}

static int put_tree(struct reading *r, const git_oid *id, const char *folder, unsigned depth)
{
    git_odb_object *o = depth == MAX_DEPTH ? NULL : git_store_read(&r->store, id, GIT_OBJECT_TREE);
    if (!o)
        return depth == MAX_DEPTH ? -ELOOP : missing(r, *folder ? folder : "its tree");
    const char *p = r->store.lib->odb_object_data(o), *stop = p + r->store.lib->odb_object_size(o);
    struct git_tree_entry e;
    int ret = 0;
    while (ret == 0 && git_tree_next(&p, stop, &e))
        ret = put_entry(r, &e, folder, depth);
    if (ret == 0 && p != stop)
        ret = -EBADMSG;
    r->store.lib->odb_object_free(o);
    return ret;
}

static int put_commit(struct reading *r, git_oid *id)
{
    struct git_head head = {.clean = 1};
    git_oid tree;
    git_odb_object *o = read_commit(r, id);
    if (!o) {
        mvm_error_set(r->err, -ENOENT, "the git repository of %s has no commit %s", r->g->root,
                      r->rev ? r->rev : r->ref);
        mvm_error_hint(r->err, "git -C %s fetch brings commits from elsewhere", r->g->root);
        return -ENOENT;
    }
    bool parsed = git_commit_parse(r->store.lib->odb_object_data(o), r->store.lib->odb_object_size(o), &tree,
                                   &head.time, NULL, NULL);
    r->store.lib->odb_object_free(o);
    git_oid_hex(id->id, head.rev);
    int ret = parsed ? buf_append(r->out, &head, sizeof(head)) : -EBADMSG;
    return ret < 0 ? ret : put_tree(r, &tree, "", 0);
}

static int read_all(void *data, struct buf *out, struct mvm_error *err)
{
    struct reading *r = data;
    char rev[GIT_REV_SIZE];
    git_oid id;
    r->out = out;
    r->err = err;
    if (!r->rev && !git_ref_find(r->g, r->ref, rev)) {
        mvm_error_set(err, -ENOENT, "the git repository of %s has no ref '%.200s'", r->g->root, r->ref);
        mvm_error_hint(err, "git -C %s for-each-ref lists what it has", r->g->root);
        return -ENOENT;
    }
    if (!git_oid_parse(r->rev ? r->rev : rev, GIT_REV_SIZE - 1, &id))
        return mvm_error_set(err, -EINVAL, "'%.60s' is no name of a commit", r->rev);
    int ret = git_store_open(&r->store, r->g, libgit2_load(err)) ? put_commit(r, &id) : -EBADMSG;
    git_store_done(&r->store);
    if (ret < 0 && !mvm_error_code(err))
        mvm_error_errno(err, ret, "the commit %s in the git repository of %s", r->rev ? r->rev : r->ref, r->g->root);
    return ret;
}

/* ---- Outside of it ---- */

struct writing {
    int dirfd, spool;
    uint64_t at; /* in the spool */
    uint8_t *chunk;
};

static int write_file(struct writing *w, const char *path, unsigned mode, uint64_t size)
{
    CLEAN_FD int fd = os_open_beneath(w->dirfd, path, O_WRONLY | O_CREAT | O_EXCL, mode & 0100 ? 0755 : 0644);
    int r = fd < 0 ? fd : 0;
    for (uint64_t done = 0; r == 0 && done < size;) {
        size_t n = (size_t)MIN_OF((uint64_t)CHUNK, size - done);
        r = fd_pread_all(w->spool, w->chunk, n, w->at + done);
        if (r == 0)
            r = fd_write_all(fd, w->chunk, n);
        done += n;
    }
    return r;
}

/* In the folder that is open already: no symlink on the way is followed. */
static int write_link(struct writing *w, int parent, const char *name, uint64_t size)
{
    char target[4096];
    if (size >= sizeof(target))
        return -ENAMETOOLONG;
    int r = fd_pread_all(w->spool, target, (size_t)size, w->at);
    target[size] = '\0';
    return r == 0 && symlinkat(target, parent, name) < 0 ? -errno : r;
}

static int write_entry(struct writing *w, const char *path, unsigned mode, uint64_t size)
{
    if (!path_is_safe_relative(path) || strcmp(path, ".git") == 0 || strncmp(path, ".git/", 5) == 0)
        return -EINVAL;
    int r = path_make_parents(w->dirfd, path, 0755);
    if (r < 0)
        return r;
    if (mode != GIT_MODE_LINK && mode != GIT_MODE_COMMIT)
        return write_file(w, path, mode, size);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    CLEAN_FREE char *folder = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    CLEAN_FD int parent = folder ? os_open_beneath(w->dirfd, folder, O_RDONLY | O_DIRECTORY, 0) : -ENOMEM;
    if (parent < 0)
        return parent;
    if (mode == GIT_MODE_LINK)
        return write_link(w, parent, name, size);
    return mkdirat(parent, name, 0755) < 0 ? -errno : 0;
}

static int write_all(const struct buf *list, struct writing *w, struct mvm_error *err)
{
    const char *stop = buf_cstr(list) + list->len;
    for (const char *at = buf_cstr(list) + sizeof(struct git_head), *path; at < stop; at = path + strlen(path) + 1) {
        char *end;
        unsigned mode = (unsigned)strtoul(at, &end, 8);
        uint64_t size = strtoull(end, &end, 10);
        path = *end == ' ' ? end + 1 : "";
        int r = write_entry(w, path, mode, size);
        if (r < 0)
            return mvm_error_errno(err, r, "path '%.200s' in the commit cannot be staged", path);
        w->at += size;
    }
    return 0;
}

int git_check_out(const struct git_repo *g, const char *ref, const char *rev, int dirfd, struct git_head *ret,
                  struct mvm_error *err)
{
    CLEAN_BUF struct buf list = BUF_INIT(MAX_LIST);
    CLEAN_FREE uint8_t *chunk = malloc(CHUNK);
    CLEAN_FD int spool = openat(dirfd, SPOOL, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct reading reading = {.g = g, .ref = ref, .rev = rev, .spool = CONFINED_FD};
    struct writing w = {.dirfd = dirfd, .spool = spool, .chunk = chunk};
    if (!chunk || spool < 0 || unlinkat(dirfd, SPOOL, 0) < 0)
        return mvm_error_errno(err, chunk ? -errno : -ENOMEM, "cannot check out a commit");
    int r = git_read(g, read_all, &reading, spool, &list, err);
    if (r < 0)
        return r;
    if (list.len < sizeof(*ret))
        return mvm_error_set(err, -EIO, "the git repository of %s: no answer", g->root);
    memcpy(ret, list.data, sizeof(*ret));
    ret->rev[GIT_REV_SIZE - 1] = '\0';
    return write_all(&list, &w, err);
}
