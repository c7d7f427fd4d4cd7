/*
 * HEAD and the refs are read here, as files; objects by libgit2 from the store that is opened by its path. A commit is
 * `tree HEX`, `parent HEX`..., `author ...`, `committer NAME <MAIL> SECONDS ZONE`; a tree is `MODE NAME`, NUL and 20
 * bytes of name of what is there, over and over, in the order that the index has, too: a folder's name counts as if a
 * slash were behind it (gitformat-pack, git-cat-file).
 */
#include "flake/githead.h"
#include "base/fd.h"
#include "base/path.h"
#include "flake/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_REF     4096
#define MAX_PACKED  (64u << 20)
#define MAX_LINKS   5
#define MAX_DEPTH   64
#define MAX_HISTORY 250000     /* commits */
#define TABLE       (1u << 19) /* places for them */
#define HEX         (2 * GIT_OID_RAWSZ)

/* ---- HEAD ---- */

static bool is_hex(const char *s)
{
    return strspn(s, "0123456789abcdef") >= HEX;
}

/* "HEX refs/heads/name" lines; behind some of them "^HEX". */
static bool find_packed(const struct git_repo *g, const char *ref, char out[static GIT_REV_SIZE])
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_PACKED);
    CLEAN_FD int dir = open(g->common, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || path_read_file(dir, "packed-refs", &text, NULL) < 0)
        return false;
    size_t n = strlen(ref);
    for (const char *line = buf_cstr(&text), *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        if ((size_t)(end - line) != HEX + 1 + n || !is_hex(line) || memcmp(line + HEX + 1, ref, n) != 0)
            continue;
        snprintf(out, GIT_REV_SIZE, "%.*s", (int)HEX, line);
        return true;
    }
    return false;
}

static bool read_ref(const char *folder, const char *name, char out[static MAX_REF])
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_REF - 1);
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int fd = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || buf_read(&text, fd, MAX_REF - 1) <= 0)
        return false;
    snprintf(out, MAX_REF, "%.*s", (int)strcspn(buf_cstr(&text), "\r\n"), buf_cstr(&text));
    return true;
}

/* False before the first commit. */
static bool find_head(const struct git_repo *g, char out[static GIT_REV_SIZE])
{
    char name[MAX_REF] = "HEAD", text[MAX_REF];
    for (unsigned i = 0; i < MAX_LINKS; i++) {
        if (!read_ref(g->git, name, text) && !read_ref(g->common, name, text))
            return find_packed(g, name, out);
        if (strncmp(text, "ref: refs/", 10) != 0) {
            snprintf(out, GIT_REV_SIZE, "%.*s", (int)HEX, text);
            return is_hex(text);
        }
        snprintf(name, sizeof(name), "%s", text + 5);
        if (!path_is_safe_relative(name))
            return false;
    }
    return false;
}

/* ---- Objects ---- */

struct store {
    const struct libgit2 *lib;
    git_odb *odb;
};

static bool store_open(struct store *s, const struct git_repo *g, const struct libgit2 *lib)
{
    CLEAN_FREE char *objects = path_join(g->common, "objects", NULL);
    *s = (struct store){.lib = lib};
    return objects && lib->odb_open(&s->odb, objects) == 0;
}

static void store_done(struct store *s)
{
    if (s->odb)
        s->lib->odb_free(s->odb);
}

/* NULL where it is not there, or of another type. */
static git_odb_object *store_read(struct store *s, const git_oid *id, git_object_t type)
{
    git_odb_object *o = NULL;
    if (s->lib->odb_read(&o, s->odb, id) < 0)
        return NULL;
    if (s->lib->odb_object_type(o) == type)
        return o;
    s->lib->odb_object_free(o);
    return NULL;
}

static bool parse_oid(const char *hex, size_t left, git_oid *ret)
{
    unsigned byte;
    if (left < HEX || !is_hex(hex))
        return false;
    for (size_t i = 0; i < GIT_OID_RAWSZ; i++) {
        sscanf(hex + 2 * i, "%2x", &byte);
        ret->id[i] = (unsigned char)byte;
    }
    return true;
}

/* The number behind "<MAIL> ". */
static uint64_t parse_time(const char *line, size_t n)
{
    const char *mail = memrchr(line, '>', n);
    return mail ? strtoull(mail + 1, NULL, 10) : 0;
}

/* Calls `parent` for each. libgit2 ends an object's data with a NUL. */
static bool parse_commit(const char *text, size_t size, git_oid *tree, uint64_t *time,
                         bool (*parent)(void *data, const git_oid *id), void *data)
{
    const char *stop = text + size;
    bool has_tree = false;
    for (const char *line = text, *end; line < stop && *line != '\n'; line = end + 1) {
        end = memchr(line, '\n', (size_t)(stop - line));
        git_oid id;
        if (!end)
            return false;
        size_t n = (size_t)(end - line);
        if (strncmp(line, "tree ", 5) == 0)
            has_tree = parse_oid(line + 5, n - 5, tree);
        else if (strncmp(line, "parent ", 7) == 0 && parent && parse_oid(line + 7, n - 7, &id) && !parent(data, &id))
            return false;
        else if (strncmp(line, "committer ", 10) == 0)
            *time = parse_time(line, n);
    }
    return has_tree;
}

/* ---- Is the index what the commit is? ---- */

struct comparison {
    struct store *store;
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
    git_odb_object *o = depth == MAX_DEPTH ? NULL : store_read(c->store, tree, GIT_OBJECT_TREE);
    const char *p = o ? c->lib->odb_object_data(o) : NULL, *stop = o ? p + c->lib->odb_object_size(o) : NULL;
    /* git makes no empty folder. Where each has an entry of the index, trees that hold each other twice, over and over,
     * are not walked for ever. */
    bool same = o && (p < stop || depth == 0);
    while (same && p < stop) {
        char *name, *end = memchr(p, '\0', (size_t)(stop - p));
        unsigned mode = (unsigned)strtoul(p, &name, 8);
        if (!end || stop - end <= GIT_OID_RAWSZ || *name != ' ') {
            same = false;
            break;
        }
        CLEAN_FREE char *path = *folder ? path_join(folder, name + 1, NULL) : strdup(name + 1);
        git_oid id;
        memcpy(id.id, end + 1, GIT_OID_RAWSZ);
        same = path && (mode == 0040000 ? same_tree(c, &id, path, depth + 1) : same_entry(c, path, mode, id.id));
        p = end + 1 + GIT_OID_RAWSZ;
    }
    if (o)
        c->lib->odb_object_free(o);
    return same;
}

void git_head_read(const struct git_repo *g, const struct libgit2 *lib, git_index *index, struct git_head *ret)
{
    struct store s;
    git_oid id, tree;
    *ret = (struct git_head){0};
    if (!find_head(g, ret->rev) || !parse_oid(ret->rev, HEX, &id))
        return;
    git_odb_object *o = store_open(&s, g, lib) ? store_read(&s, &id, GIT_OBJECT_COMMIT) : NULL;
    if (o && parse_commit(lib->odb_object_data(o), lib->odb_object_size(o), &tree, &ret->time, NULL, NULL)) {
        struct comparison c = {.store = &s, .lib = lib, .index = index};
        ret->clean = same_tree(&c, &tree, "", 0) && c.at == lib->index_entrycount(index);
    }
    if (o)
        lib->odb_object_free(o);
    store_done(&s);
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
    struct store s = {.lib = lib};
    git_oid id, tree;
    uint64_t time;
    bool all = h.table && h.queue && shallow && access(shallow, F_OK) < 0 && parse_oid(w->rev, HEX, &id) &&
               store_open(&s, w->g, lib) && add_commit(&h, &id);
    for (size_t i = 0; all && i < h.n; i++) {
        git_odb_object *o = store_read(&s, &h.queue[i], GIT_OBJECT_COMMIT);
        all = o && parse_commit(lib->odb_object_data(o), lib->odb_object_size(o), &tree, &time, add_commit, &h);
        if (o)
            lib->odb_object_free(o);
    }
    store_done(&s);
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
    int r = git_read(g, count, &w, &out, err);
    if (r == 0 && out.len == sizeof(*ret))
        memcpy(ret, out.data, sizeof(*ret));
    return r;
}
