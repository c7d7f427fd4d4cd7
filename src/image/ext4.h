/*
 * ext4 by libext2fs (e2fsprogs). The same tree and options give the same bytes: UUID and hash seed come from the
 * options, times are fixed, inodes are numbered in sorted order.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "image/fstree.h"

#include <stdint.h>

struct ext4_opts {
    uint64_t size;  /* bytes of the file; 0: as small as fits plus `spare` */
    uint64_t spare; /* free bytes beyond the content */
    uint8_t uuid[16];
    const char *label; /* at most 16 bytes; NULL: none */
    bool journal;      /* a writable disk wants one; a read-only root does not */
    uint64_t time;     /* seconds for every timestamp */
};

/* Writes a file system with the tree's content (NULL: an empty one) into the empty regular file fd, sparse. */
int ext4_write(int fd, const struct fstree *tree, const struct ext4_opts *opts, struct mvm_error *err) MVM_MUST_CHECK;

/* Opens the image file read only and looks a path up (symlinks followed within it). 1: a regular file or folder is
 * there, 0: not, -errno: no ext4. */
int ext4_has(const char *image, const char *path, struct mvm_error *err) MVM_MUST_CHECK;

/* Reads a regular file of the image (symlinks followed within it) into a buffer, whose maximum bounds it. */
int ext4_read(const char *image, const char *path, struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;

/* The super block's magic 53 EF at byte 1080 (kernel: Documentation/filesystems/ext4/super.rst): 1, 0 or -errno. */
int ext4_check_magic(int fd);

/* Was it unmounted in order and without errors, as far as its super block says (s_magic, s_state, s_feature_incompat in
 * the same document)? 1, 0 or -errno. */
int ext4_is_clean(int fd);
