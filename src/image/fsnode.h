/* A file, folder or symlink of a tree (fstree.h), and what reads its content. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum fsnode_kind { FSNODE_DIR, FSNODE_FILE, FSNODE_SYMLINK, FSNODE_CHAR };

struct fsnode {
    char *name; /* owned */
    enum fsnode_kind kind;
    mode_t mode;              /* permission bits, setuid bits included */
    uint32_t uid, gid;        /* of folders that are somebody's home, else 0 */
    uint64_t size;            /* files: bytes */
    char *source;             /* files: path on this machine, or NULL */
    uint8_t *memory;          /* files without source: content, owned */
    char *target;             /* symlinks */
    unsigned major, minor;    /* character devices */
    uint64_t hardlink_id;     /* nonzero: files with the same id are one inode */
    struct fsnode **children; /* sorted by name (bytes) */
    size_t n_children;
};

/* NULL where there is no memory. The name has len bytes. */
struct fsnode *fsnode_new(const char *name, size_t len, enum fsnode_kind kind, mode_t mode);
/* With all that is below it. */
void fsnode_free(struct fsnode *n);
void fsnode_freep(struct fsnode **n);
#define CLEAN_FSNODE CLEANUP(fsnode_freep)
/* The place of a name among dir's children: the index of the child with that name, else where it
 * would go. */
size_t fsnode_child_index(const struct fsnode *dir, const char *name, size_t len, bool *found);

/* Reads a file node's content from the start, whether it lies in memory or in a source. */
struct fsnode_reader {
    const struct fsnode *node;
    int fd; /* -1 for memory */
    uint64_t at;
};
#define FSNODE_READER_INIT                                                                                             \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }
#define CLEAN_FSNODE_READER CLEANUP(fsnode_reader_close)

/* Fails with -ESTALE where the source is no longer a file of the size that was added. */
int fsnode_reader_open(struct fsnode_reader *r, const struct fsnode *node, struct mvm_error *err) MVM_MUST_CHECK;
/* The next n bytes, all of them. */
int fsnode_reader_read(struct fsnode_reader *r, void *p, size_t n, struct mvm_error *err) MVM_MUST_CHECK;
void fsnode_reader_close(struct fsnode_reader *r);
