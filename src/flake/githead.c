/* The index has the order of trees: a folder's name counts as if a slash were behind it. */
#include "flake/githead.h"
#include "base/path.h"
#include "flake/gitobject.h"
#include "flake/gitref.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_DEPTH   64
#define MAX_HISTORY 250000     /* commits */
#define TABLE       (1u << 19) /* places for them */
#define HEX         (2 * GIT_OID_RAWSZ)

/* ---- Is the index what the commit is? ---- */

struct comparison {
    struct git_store *store;
    const struct libgit2 *lib;
    git_index *index;
    size_t at; /* entries that are as in the commit */
};

static bool same_entry(struct comparison *c, const char *path, unsigned mode, const uint8_t *id)
{
    const git_index_entry *e = c->lib->index_get_byindex(c->index, c->at);
    if (mode >> 12 == 010) /* early ones have 0100664 */
        mode = mode & 0100 ? 0100755 : 0100644;
    bool same = e && (e->flags & GIT_INDEX_ENTRY_STAGEMASK) == 0 && e->mode == mode && strcmp(e->path, path) == 0 &&
                memcmp(e->id.id, id, GIT_OID_RAWSZ) == 0;
    c->at += same;
    return same;
}

static bool same_tree(struct comparison *c, const git_oid *tree, const char *folder, unsigned depth)
{
    git_odb_object *o = depth == MAX_DEPTH ? NULL : git_store_read(c->store, tree, GIT_OBJECT_TREE);
    const char *p = o ? c->lib->odb_object_data(o) : NULL, *stop = o ? p + c->lib->odb_object_size(o) : NULL;
    /* git makes no empty folder. Where each has an entry of the index, trees that hold each other twice, over and over,
     * are not walked for ever. */
    bool same = o && (p < stop || depth == 0);
    struct git_tree_entry e;
    while (same && git_tree_next(&p, stop, &e)) {
        CLEAN_FREE char *path = *folder ? path_join(folder, e.name, NULL) : strdup(e.name);
        same = path && (e.mode == GIT_MODE_FOLDER ? same_tree(c, &e.id, path, depth + 1)
                                                  : same_entry(c, path, e.mode, e.id.id));
    }
    same &= p == stop;
    if (o)
        c->lib->odb_object_free(o);
    return same;
}

void git_head_read(const struct git_repo *g, const struct libgit2 *lib, git_index *index, struct git_head *ret)
{
    struct git_store s;
    git_oid id, tree;
    *ret = (struct git_head){0};
    if (!git_ref_head(g, ret->rev) || !git_oid_parse(ret->rev, HEX, &id))
        return;
    git_odb_object *o = git_store_open(&s, g, lib) ? git_store_read(&s, &id, GIT_OBJECT_COMMIT) : NULL;
    if (o && git_commit_parse(lib->odb_object_data(o), lib->odb_object_size(o), &tree, &ret->time, NULL, NULL)) {
        struct comparison c = {.store = &s, .lib = lib, .index = index};
        ret->clean = same_tree(&c, &tree, "", 0) && c.at == lib->index_entrycount(index);
    }
    if (o)
        lib->odb_object_free(o);
    git_store_done(&s);
}

/* ---- How many commits lead to it ---- */

struct history {
    git_oid *table, *queue; /* a hash table, and the commits in the order they were found */
    size_t n;
};

static bool add_commit(void *data, const git_oid *id)
{
    static const git_oid none;
    struct history *h = data;
    uint32_t at;
    memcpy(&at, id->id, sizeof(at));
    for (at %= TABLE; memcmp(&h->table[at], &none, sizeof(none)) != 0; at = (at + 1) % TABLE)
        if (memcmp(&h->table[at], id, sizeof(*id)) == 0)
            return true;
    if (h->n == MAX_HISTORY)
        return false;
    h->table[at] = h->queue[h->n++] = *id;
    return true;
}

struct count_work {
    const struct git_repo *g;
    const char *rev;
};

/* In the child. What cannot be counted, or not here as anywhere else, is 0. */
static int count(void *data, struct buf *out, struct mvm_error *err)
{
    const struct count_work *w = data;
    const struct libgit2 *lib = libgit2_load(err);
    struct history h = {.table = calloc(TABLE, sizeof(git_oid)), .queue = calloc(MAX_HISTORY, sizeof(git_oid))};
    CLEAN_FREE char *shallow = path_join(w->g->common, "shallow", NULL);
    struct git_store s = {.lib = lib};
    git_oid id, tree;
    uint64_t time;
    bool all = h.table && h.queue && shallow && access(shallow, F_OK) < 0 && git_oid_parse(w->rev, HEX, &id) &&
               git_store_open(&s, w->g, lib) && add_commit(&h, &id);
    for (size_t i = 0; all && i < h.n; i++) {
        git_odb_object *o = git_store_read(&s, &h.queue[i], GIT_OBJECT_COMMIT);
        all = o && git_commit_parse(lib->odb_object_data(o), lib->odb_object_size(o), &tree, &time, add_commit, &h);
        if (o)
            lib->odb_object_free(o);
    }
    git_store_done(&s);
    free(h.table);
    free(h.queue);
    uint64_t n = all ? h.n : 0;
    return buf_append(out, &n, sizeof(n));
}

int git_count(const struct git_repo *g, const char *rev, uint64_t *ret, struct mvm_error *err)
{
    struct count_work w = {.g = g, .rev = rev};
    CLEAN_BUF struct buf out = BUF_INIT(sizeof(uint64_t));
    *ret = 0;
    int r = git_read(g, count, &w, -1, &out, err);
    if (r == 0 && out.len == sizeof(*ret))
        memcpy(ret, out.data, sizeof(*ret));
    return r;
}
