/*
 * What an ext4 file system will hold, worked out before anything is written: the tree's names in
 * breadth-first order, an inode number for each, how many blocks each takes. Private to ext4.c.
 */
#pragma once

#include "base/error.h"
#include "image/fstree.h"

#include <stddef.h>
#include <stdint.h>

#define EXT4_BLOCK       4096u
#define EXT4_ROOT        2u
#define EXT4_FIRST_INODE 11u /* 1 to 10 are reserved */

struct ext4_entry {
    const struct fsnode *node;
    uint32_t ino;
    uint32_t links;
    bool again;      /* a further name of an inode that an earlier entry makes */
    size_t parent;   /* index of the folder's entry; the root is its own */
    size_t children; /* folders: index of the first child's entry; they follow each other */
    uint64_t size;   /* as in the inode */
    uint64_t blocks; /* of content, those of the extent tree not counted */
};

struct ext4_layout {
    struct ext4_entry *entries; /* the root first */
    size_t n;
    uint64_t n_inodes; /* without the reserved ones */
    uint64_t blocks;   /* enough for all content and its extent trees */
};

/* tree NULL: an empty root folder. */
int ext4_layout_init(struct ext4_layout *l, const struct fstree *tree, struct mvm_error *err) MVM_MUST_CHECK;
void ext4_layout_done(struct ext4_layout *l);

/* Fills one block (EXT4_BLOCK bytes; NULL: only counts) of a folder but for the 12 bytes of
 * checksum at its end. *next tells where to go on, 0 at first; it is the folder's number of
 * children + 2 behind the last block. */
void ext4_layout_dir_block(const struct ext4_layout *l, const struct ext4_entry *dir, size_t *next, uint8_t *block);
