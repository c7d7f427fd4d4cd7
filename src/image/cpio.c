#include "image/cpio.h"
#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CHUNK    (1u << 20)
#define MAX_FILE UINT32_MAX /* the header has eight hexadecimal digits for it */
#define MAX_PATH 4095

/* Gathers the archive into large writes. */
struct writer {
    int fd;
    uint8_t *chunk;
    size_t len;
    uint64_t at; /* bytes so far, for alignment */
    uint32_t ino;
    struct mvm_error *err;
};

static void writer_done(struct writer *w)
{
    free(w->chunk);
}

static int flush(struct writer *w)
{
    int r = fd_write_all(w->fd, w->chunk, w->len);
    w->len = 0;
    return r < 0 ? mvm_error_errno(w->err, r, "cannot write the archive") : 0;
}

/* Up to *n bytes of room that will be filled at once: sets *n to how many. */
static int room(struct writer *w, size_t *n, uint8_t **ret)
{
    if (w->len == CHUNK) {
        int r = flush(w);
        if (r < 0)
            return r;
    }
    *n = MIN_OF(*n, CHUNK - w->len);
    *ret = w->chunk + w->len;
    w->len += *n;
    w->at += *n;
    return 0;
}

static int put(struct writer *w, const void *p, size_t n)
{
    for (const uint8_t *from = p; n;) {
        size_t part = n;
        uint8_t *to = NULL;
        int r = room(w, &part, &to);
        if (r < 0)
            return r;
        memcpy(to, from, part);
        from += part;
        n -= part;
    }
    return 0;
}

/* Names and contents end at a multiple of four. */
static int align(struct writer *w)
{
    static const char zeros[4];
    return put(w, zeros, (4 - w->at % 4) % 4);
}

static int put_header(struct writer *w, const char *path, const struct fsnode *n, unsigned mode, uint64_t size)
{
    char head[111];
    unsigned links = n && n->kind == FSNODE_DIR ? 2 : 1;
    /* magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
     * namesize, check */
    snprintf(head, sizeof(head), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", n ? ++w->ino : 0, mode,
             n ? n->uid : 0, n ? n->gid : 0, links, 0, (unsigned)size, 0, 0, n ? n->major : 0, n ? n->minor : 0,
             (unsigned)strlen(path) + 1, 0);
    int r = put(w, head, sizeof(head) - 1);
    if (r == 0)
        r = put(w, path, strlen(path) + 1);
    return r < 0 ? r : align(w);
}

static int put_file(struct writer *w, const struct fsnode *n)
{
    CLEAN_FSNODE_READER struct fsnode_reader reader = FSNODE_READER_INIT;
    int r = fsnode_reader_open(&reader, n, w->err);
    for (uint64_t left = n->size; r == 0 && left;) {
        size_t part = (size_t)MIN_OF(left, (uint64_t)CHUNK);
        uint8_t *to = NULL;
        r = room(w, &part, &to);
        if (r == 0)
            r = fsnode_reader_read(&reader, to, part, w->err);
        left -= part;
    }
    return r < 0 ? r : align(w);
}

static int put_node(struct writer *w, const struct fsnode *n, const char *path)
{
    static const unsigned types[] = {
        [FSNODE_DIR] = 0040000,
        [FSNODE_FILE] = 0100000,
        [FSNODE_SYMLINK] = 0120000,
        [FSNODE_CHAR] = 0020000,
    };
    if (n->size > MAX_FILE)
        return mvm_error_set(w->err, -EFBIG, "%s is too large for a cpio archive", path);
    uint64_t size = n->kind == FSNODE_SYMLINK ? strlen(n->target) : n->size;
    int r = put_header(w, path, n, types[n->kind] | n->mode, size);
    if (r == 0 && n->kind == FSNODE_FILE)
        return put_file(w, n);
    if (r == 0 && n->kind == FSNODE_SYMLINK)
        r = put(w, n->target, size);
    return r < 0 ? r : align(w);
}

/* path holds the folder's own path, len bytes; a folder comes before what is in it, as the kernel
 * needs it. */
static int put_children(struct writer *w, const struct fsnode *dir, char path[static MAX_PATH + 1], size_t len)
{
    for (size_t i = 0; i < dir->n_children; i++) {
        const struct fsnode *n = dir->children[i];
        int more = snprintf(path + len, MAX_PATH + 1 - len, "%s%s", len ? "/" : "", n->name);
        if (more < 0 || (size_t)more > MAX_PATH - len)
            return mvm_error_set(w->err, -ENAMETOOLONG, "path too long in archive: %s", n->name);
        int r = put_node(w, n, path);
        if (r == 0)
            r = put_children(w, n, path, len + (size_t)more);
        if (r < 0)
            return r;
    }
    return 0;
}

int cpio_write(int fd, const struct fstree *tree, struct mvm_error *err)
{
    CLEANUP(writer_done) struct writer w = {.fd = fd, .chunk = malloc(CHUNK), .err = err};
    if (!w.chunk)
        return mvm_error_errno(err, -ENOMEM, "cpio");
    char path[MAX_PATH + 1] = "";
    int r = put_children(&w, tree->root, path, 0);
    if (r == 0)
        r = put_header(&w, "TRAILER!!!", NULL, 0, 0);
    return r < 0 ? r : flush(&w);
}
