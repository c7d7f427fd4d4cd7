/*
 * The index is one flat file: a header, then fixed-size records sorted by the hash of their path, so that loading is
 * one read and looking up a binary search. A record is entered only where the file's ctime is older than the moment
 * before it was read by more than the clock's granularity: the kernel stamps files with a coarse clock (a tick, at most
 * 10 ms), so that a later change within that time could leave the same ctime.
 */
#include "cache/statindex.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAGIC     "mvmstat1"
#define RACY_NS   (20 * NSEC_PER_MSEC)
#define MAX_BYTES (64u << 20)
#define FOLDER    "stat-index"

struct record {
    uint64_t path; /* first 8 bytes of the path's SHA-256 */
    uint64_t dev, ino, size, mode;
    uint64_t mtime, ctime; /* ns */
    uint8_t digest[SHA256_SIZE];
};

struct statindex {
    int cache_fd;
    char name[SHA256_HEX_SIZE];
    struct record *old; /* as loaded, sorted */
    size_t n_old;
    bool *old_used;
    struct record *added; /* in order of arrival */
    size_t n_added, cap_added;
    bool dirty;
    bool unreadable; /* there may be one: it is not replaced */
    struct sha256 sha;
};

static uint64_t path_key(struct statindex *s, const char *path)
{
    uint8_t d[SHA256_SIZE];
    uint64_t key;
    sha256_update(&s->sha, path, strlen(path));
    sha256_final(&s->sha, d);
    memcpy(&key, d, sizeof(key));
    return key;
}

static uint64_t ns_of(struct timespec t)
{
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static struct record record_of(uint64_t key, const struct stat *st)
{
    return (struct record){
        .path = key,
        .dev = st->st_dev,
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .mode = st->st_mode,
        .mtime = ns_of(st->st_mtim),
        .ctime = ns_of(st->st_ctim),
    };
}

static bool same_stat(const struct record *a, const struct record *b)
{
    return memcmp(a, b, offsetof(struct record, digest)) == 0;
}

static void load(struct statindex *s)
{
    CLEAN_FD int dir = openat(s->cache_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    CLEAN_BUF struct buf b = BUF_INIT(MAX_BYTES);
    int r = dir < 0 ? -errno : path_read_file(dir, s->name, &b, NULL);
    s->unreadable = r < 0 && !mvm_error_is_absent(r) && !mvm_error_is_damage(r);
    if (r < 0)
        return;
    /* header: magic, then the digest of the records, so that a damaged file is an empty one */
    size_t head = sizeof(MAGIC) - 1 + SHA256_SIZE;
    if (b.len < head || memcmp(b.data, MAGIC, sizeof(MAGIC) - 1) != 0 || (b.len - head) % sizeof(struct record))
        return;
    uint8_t digest[SHA256_SIZE];
    sha256_update(&s->sha, b.data + head, b.len - head);
    sha256_final(&s->sha, digest);
    if (memcmp(digest, b.data + sizeof(MAGIC) - 1, SHA256_SIZE) != 0)
        return;
    size_t n = (b.len - head) / sizeof(struct record);
    s->old = malloc(b.len - head + 1);
    s->old_used = calloc(n + 1, sizeof(bool));
    s->unreadable = !s->old || !s->old_used;
    if (s->unreadable)
        return;
    memcpy(s->old, b.data + head, b.len - head);
    s->n_old = n;
}

struct statindex *statindex_load(int cache_fd, const char *key)
{
    struct statindex *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    sha256_init(&s->sha);
    s->cache_fd = cache_fd;
    uint8_t d[SHA256_SIZE];
    sha256_update(&s->sha, key, strlen(key));
    sha256_final(&s->sha, d);
    sha256_hex(d, s->name);
    load(s);
    return s;
}

static int by_path(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    return x->path < y->path ? -1 : x->path > y->path;
}

bool statindex_get(struct statindex *s, const char *path, const struct stat *st, char out[static SHA256_HEX_SIZE])
{
    struct record want = record_of(path_key(s, path), st);
    struct record *r = s->n_old ? bsearch(&want, s->old, s->n_old, sizeof(want), by_path) : NULL;
    if (!r || !same_stat(r, &want))
        return false;
    s->old_used[r - s->old] = true;
    sha256_hex(r->digest, out);
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

void statindex_put(struct statindex *s, const char *path, const struct stat *st, uint64_t read_at,
                   const char digest[static SHA256_HEX_SIZE])
{
    struct record r = record_of(path_key(s, path), st);
    s->dirty = true;
    if (r.ctime + RACY_NS > read_at || r.mtime > read_at)
        return;
    if (s->n_added == s->cap_added) {
        size_t cap = s->cap_added ? 2 * s->cap_added : 64;
        struct record *more = reallocarray(s->added, cap, sizeof(*more));
        if (!more)
            return;
        s->added = more;
        s->cap_added = cap;
    }
    for (int i = 0; i < SHA256_SIZE; i++)
        r.digest[i] = (uint8_t)(hex_digit(digest[2 * i]) << 4 | hex_digit(digest[2 * i + 1]));
    s->added[s->n_added++] = r;
}

/* What was seen this time, sorted, later entries of a path winning. */
static size_t merge(struct statindex *s, struct record *all)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_added; i++)
        all[n++] = s->added[i];
    for (size_t i = 0; i < s->n_old; i++)
        if (s->old_used[i])
            all[n++] = s->old[i];
    qsort(all, n, sizeof(*all), by_path);
    return n;
}

void statindex_save(struct statindex *s)
{
    if (!s->dirty || s->unreadable)
        return;
    size_t max = s->n_added + s->n_old;
    CLEAN_FREE struct record *all = calloc(max + 1, sizeof(*all));
    CLEAN_FD int dir = path_open_dir(s->cache_fd, FOLDER, NULL);
    if (!all || dir < 0)
        return;
    size_t n = merge(s, all);
    uint8_t digest[SHA256_SIZE];
    sha256_update(&s->sha, all, n * sizeof(*all));
    sha256_final(&s->sha, digest);
    CLEAN_BUF struct buf b = BUF_INIT(MAX_BYTES);
    if (buf_append(&b, MAGIC, sizeof(MAGIC) - 1) < 0 || buf_append(&b, digest, sizeof(digest)) < 0 ||
        buf_append(&b, all, n * sizeof(*all)) < 0)
        return;
    if (path_write_file(dir, s->name, b.data, b.len, 0600, false, NULL) == 0)
        s->dirty = false;
}

void statindex_free(struct statindex *s)
{
    if (!s)
        return;
    free(s->old);
    free(s->old_used);
    free(s->added);
    free(s);
}
