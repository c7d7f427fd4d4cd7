/*
 * A tree of files on its way into an image: built from folders, single files and memory, then written as an ext4 file
 * system (ext4.h) or a cpio archive (cpio.h). Everything is owned by root in the image, but for users' homes; times are
 * fixed; children are kept sorted by name, so that the same input gives the same bytes.
 */
#pragma once

#include "image/fsnode.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fstree {
    struct fsnode *root;
    size_t n_nodes;       /* the root included */
    uint64_t total_bytes; /* of files' content, hard links counted each */
};

int fstree_init(struct fstree *t) MVM_MUST_CHECK;
void fstree_done(struct fstree *t);
#define CLEAN_FSTREE CLEANUP(fstree_done)

/* Adding replaces what is there, except that a folder added over a folder keeps its children (and takes the new mode).
 * Missing parents are made with mode 0755. Symlinks in the tree are not followed: adding below one is -ENOTDIR. paths
 * are relative to the root; leading slashes are ignored and "" or "/" is the root itself, which only a folder can
 * replace. */
int fstree_add_dir(struct fstree *t, const char *path, mode_t mode, struct mvm_error *err) MVM_MUST_CHECK;
int fstree_add_memory(struct fstree *t, const char *path, mode_t mode, const void *p, size_t n,
                      struct mvm_error *err) MVM_MUST_CHECK;
int fstree_add_file(struct fstree *t, const char *path, mode_t mode, const char *source,
                    struct mvm_error *err) MVM_MUST_CHECK;
int fstree_add_symlink(struct fstree *t, const char *path, const char *target, struct mvm_error *err) MVM_MUST_CHECK;
int fstree_add_char(struct fstree *t, const char *path, mode_t mode, unsigned major, unsigned minor,
                    struct mvm_error *err) MVM_MUST_CHECK;

/* Adds what is below the folder `source` at path, which becomes a folder with source's mode. exclude (NULL: nothing) is
 * asked with the path relative to source; what it answers true for is left out with all below it. Sockets, block
 * devices and fifos are left out, character devices too. */
int fstree_add_tree(struct fstree *t, const char *path, const char *source,
                    bool (*exclude)(const char *path, void *data), void *data, struct mvm_error *err) MVM_MUST_CHECK;
/* The same with the modes that Git and Nix keep: 0755 for folders and what its owner may execute, 0644 for the rest.
 * Folders that are there keep theirs. */
int fstree_add_plain_tree(struct fstree *t, const char *path, const char *source, struct mvm_error *err) MVM_MUST_CHECK;
mode_t fstree_plain_mode(mode_t mode);

/* Takes out what the pattern matches, with all below it: an absolute path whose components are shell patterns
 * (fnmatch). That nothing matches is no error. */
void fstree_drop(struct fstree *t, const char *pattern);

/* The node at path, or NULL. */
struct fsnode *fstree_find(const struct fstree *t, const char *path);
