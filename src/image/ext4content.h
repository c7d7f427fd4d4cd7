/* The content of an ext4 file system on its way to the disk: blocks are taken in order and written in large pieces.
 * Private to ext4.c, which says why. */
#pragma once

#include "image/ext4.h"
#include "image/ext4layout.h"

#include <et/com_err.h>
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

#define EXT4_CHUNK_BLOCKS 256u

struct ext4_writer {
    ext2_filsys fs;
    int fd; /* the caller's, for content */
    const struct ext4_layout *layout;
    const struct ext4_opts *opts;
    uint32_t time;
    blk64_t next;   /* where to look for free blocks */
    uint8_t *chunk; /* content not yet written: chunk_len bytes that belong at block chunk_at */
    size_t chunk_len;
    blk64_t chunk_at;
    struct mvm_error *err;
};

/* Where an inode's content comes from: fills n blocks at p; called in order until all is there. */
struct ext4_content {
    int (*read)(struct ext4_content *c, uint8_t *p, uint64_t n_blocks);
    struct ext4_writer *w;
    const struct ext4_entry *entry;
    struct fsnode_reader reader;
    uint64_t left; /* bytes */
    size_t child;  /* folders: the next one */
};

/* Records what failed; a code of the library becomes -errno. */
int ext4_fail(const struct ext4_writer *w, errcode_t code, const char *what);
/* Writes what is gathered. */
int ext4_flush_chunk(struct ext4_writer *w);
/* Takes the blocks of an entry's content, writes it, and records in the inode where it is: one
 * extent for each free run, of at most 128 MiB. */
int ext4_write_content(struct ext4_writer *w, struct ext4_content *c, struct ext2_inode_large *inode);
