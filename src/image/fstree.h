/*
 * A tree of files on its way into an image: built from folders, single files and memory, then written as an ext4 file
 * system (ext4.h) or a cpio archive (cpio.h). Everything is owned by root in the image; times are fixed; children are
 * kept sorted by name, so that the same input gives the same bytes.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum fsnode_kind { FSNODE_DIR, FSNODE_FILE, FSNODE_SYMLINK, FSNODE_CHAR };

struct fsnode {
    char *name;              /* owned */
    enum fsnode_kind kind;
    mode_t mode;             /* permission bits, setuid bits included */
    uint64_t size;           /* files: bytes */
    char *source;            /* files: path on this machine, or NULL */
    uint8_t *memory;         /* files without source: content, owned */
    char *target;            /* symlinks */
    unsigned major, minor;   /* character devices */
    uint64_t hardlink_id;    /* nonzero: files with the same id are one inode */
    struct fsnode **children; /* sorted by name */
    size_t n_children;
};

struct fstree {
    struct fsnode *root;
    size_t n_nodes;
    uint64_t total_bytes;
};

int fstree_init(struct fstree *t) MVM_MUST_CHECK;
void fstree_done(struct fstree *t);

/* Adding replaces what is there, except that a folder added over a folder keeps its children. Missing parents are made
 * with mode 0755. Symlinks in the tree are not followed: adding below one is -ENOTDIR. paths are relative to the root. */
int fstree_add_dir(struct fstree *t, const char *path, mode_t mode, struct mvm_error *err) MVM_MUST_CHECK;
int fstree_add_memory(struct fstree *t, const char *path, mode_t mode, const void *p, size_t n,
                      struct mvm_error *err) MVM_MUST_CHECK;
int fstree_add_file(struct fstree *t, const char *path, mode_t mode, const char *source, struct mvm_error *err)
    MVM_MUST_CHECK;
int fstree_add_symlink(struct fstree *t, const char *path, const char *target, struct mvm_error *err)
    MVM_MUST_CHECK;
int fstree_add_char(struct fstree *t, const char *path, mode_t mode, unsigned major, unsigned minor,
                    struct mvm_error *err) MVM_MUST_CHECK;

/* Adds what is below the folder `source` at path. exclude (NULL: nothing) is asked with the path relative to source;
 * sockets, devices and fifos are left out. */
int fstree_add_tree(struct fstree *t, const char *path, const char *source,
                    bool (*exclude)(const char *path, void *data), void *data, struct mvm_error *err)
    MVM_MUST_CHECK;

/* The node at path, or NULL. */
struct fsnode *fstree_find(const struct fstree *t, const char *path);
