#include "image/cpio.h"
#include "base/buf.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define MAX_ARCHIVE (256u << 20)

struct writer {
    struct buf out;
    unsigned ino;
    struct mvm_error *err;
};

static int pad(struct buf *b)
{
    static const char zeros[4];
    return buf_append(b, zeros, (4 - b->len % 4) % 4);
}

static int header(struct writer *w, const char *path, unsigned mode, uint64_t size, unsigned major, unsigned minor)
{
    char text[111];
    snprintf(text, sizeof(text), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ++w->ino, mode, 0u, 0u, 1u,
             1u, (unsigned)size, 0u, 0u, major, minor, (unsigned)strlen(path) + 1, 0u);
    int r = buf_append(&w->out, text, 110);
    if (r == 0)
        r = buf_append(&w->out, path, strlen(path) + 1);
    return r < 0 ? r : pad(&w->out);
}

static int content(struct writer *w, const struct fsnode *n)
{
    int r;
    if (n->memory) {
        r = buf_append(&w->out, n->memory, n->size);
    } else {
        CLEAN_FD int fd = open(n->source, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        r = buf_reserve(&w->out, n->size);
        if (r == 0)
            r = fd_pread_all(fd, w->out.data + w->out.len, n->size, 0);
        if (r == 0)
            w->out.len += n->size;
    }
    return r < 0 ? r : pad(&w->out);
}

static int write_node(struct writer *w, const struct fsnode *n, const char *path)
{
    static const unsigned types[] = {
        [FSNODE_DIR] = 0040000, [FSNODE_FILE] = 0100000, [FSNODE_SYMLINK] = 0120000, [FSNODE_CHAR] = 0020000};
    int r = n->size > MAX_ARCHIVE ? -EFBIG
                                  : header(w, path, types[n->kind] | n->mode, n->size, n->major, n->minor);
    if (r == 0 && n->kind == FSNODE_FILE)
        r = content(w, n);
    if (r == 0 && n->kind == FSNODE_SYMLINK) {
        r = buf_append(&w->out, n->target, n->size);
        if (r == 0)
            r = pad(&w->out);
    }
    return r < 0 ? mvm_error_errno(w->err, r, "cannot archive %s", path) : 0;
}

static int write_children(struct writer *w, const struct fsnode *dir, const char *path)
{
    for (size_t i = 0; i < dir->n_children; i++) {
        const struct fsnode *n = dir->children[i];
        char sub[4096];
        if ((size_t)snprintf(sub, sizeof(sub), "%s%s%s", path, *path ? "/" : "", n->name) >= sizeof(sub))
            return mvm_error_set(w->err, -ENAMETOOLONG, "path too long below %s", path);
        int r = write_node(w, n, sub);
        if (r == 0)
            r = write_children(w, n, sub);
        if (r < 0)
            return r;
    }
    return 0;
}

int cpio_write(int fd, const struct fstree *tree, struct mvm_error *err)
{
    struct writer w = {.out = BUF_INIT(MAX_ARCHIVE), .err = err};
    int r = write_children(&w, tree->root, "");
    if (r == 0) {
        r = header(&w, "TRAILER!!!", 0, 0, 0, 0);
        if (r == 0)
            r = fd_write_all(fd, w.out.data, w.out.len);
        if (r < 0)
            mvm_error_errno(err, r, "cannot write the archive");
    }
    buf_done(&w.out);
    return r;
}
