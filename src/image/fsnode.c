#include "image/fsnode.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

void fsnode_free(struct fsnode *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->n_children; i++)
        fsnode_free(n->children[i]);
    free(n->children);
    free(n->name);
    free(n->source);
    free(n->memory);
    free(n->target);
    free(n);
}

void fsnode_freep(struct fsnode **n)
{
    fsnode_free(*n);
}

struct fsnode *fsnode_new(const char *name, size_t len, enum fsnode_kind kind, mode_t mode)
{
    struct fsnode *n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->name = strndup(name, len);
    if (!n->name) {
        free(n);
        return NULL;
    }
    n->kind = kind;
    n->mode = mode & 07777;
    return n;
}

size_t fsnode_child_index(const struct fsnode *dir, const char *name, size_t len, bool *found)
{
    size_t low = 0, high = dir->n_children;
    *found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const char *other = dir->children[mid]->name;
        int c = strncmp(name, other, len);
        if (c == 0 && other[len] != '\0')
            c = -1;
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

int fsnode_reader_open(struct fsnode_reader *r, const struct fsnode *node, struct mvm_error *err)
{
    r->node = node;
    r->at = 0;
    r->fd = -1;
    if (!node->source)
        return 0;
    r->fd = open(node->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (r->fd < 0 || fstat(r->fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", node->source);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != node->size)
        return mvm_error_set(err, -ESTALE, "%s changed while the image was made", node->source);
    return 0;
}

int fsnode_reader_read(struct fsnode_reader *r, void *p, size_t n, struct mvm_error *err)
{
    if (r->fd < 0) {
        memcpy(p, r->node->memory + r->at, n);
        r->at += n;
        return 0;
    }
    int e = fd_read_all(r->fd, p, n);
    r->at += n;
    if (e == -ENODATA)
        return mvm_error_set(err, -ESTALE, "%s changed while the image was made", r->node->source);
    return e < 0 ? mvm_error_errno(err, e, "cannot read %s", r->node->source) : 0;
}

void fsnode_reader_close(struct fsnode_reader *r)
{
    fd_closep(&r->fd);
}
