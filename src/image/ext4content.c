#include "image/ext4content.h"
#include "base/fd.h"

#include <errno.h>
#include <string.h>

#define INLINE_EXTENTS 4

int ext4_fail(const struct ext4_writer *w, errcode_t code, const char *what)
{
    /* Codes below the tables of com_err are errno values. */
    if (code > 0 && code < 4096)
        return mvm_error_errno(w->err, (int)-code, "%s", what);
    initialize_ext2_error_table();
    int e = code == EXT2_ET_NO_MEMORY ? -ENOMEM : code == EXT2_ET_BLOCK_ALLOC_FAIL ? -ENOSPC : -EIO;
    return mvm_error_set(w->err, e, "%s: %s", what, error_message(code));
}

int ext4_flush_chunk(struct ext4_writer *w)
{
    if (!w->chunk_len)
        return 0;
    /* Zeros are there already, as a hole. */
    bool zero = w->chunk[0] == 0 && memcmp(w->chunk, w->chunk + 1, w->chunk_len - 1) == 0;
    int r = zero ? 0 : fd_pwrite_all(w->fd, w->chunk, w->chunk_len, w->chunk_at * EXT4_BLOCK);
    w->chunk_len = 0;
    return r < 0 ? ext4_fail(w, -r, "cannot write the file system") : 0;
}

/* Room for up to *count blocks of content that belong at block `at`: sets *ret to it and *count to
 * how many fit. */
static int chunk_room(struct ext4_writer *w, blk64_t at, uint64_t *count, uint8_t **ret)
{
    if (at != w->chunk_at + w->chunk_len / EXT4_BLOCK || w->chunk_len == EXT4_CHUNK_BLOCKS * EXT4_BLOCK) {
        int r = ext4_flush_chunk(w);
        if (r < 0)
            return r;
        w->chunk_at = at;
    }
    *ret = w->chunk + w->chunk_len;
    *count = MIN_OF(*count, EXT4_CHUNK_BLOCKS - w->chunk_len / EXT4_BLOCK);
    w->chunk_len += *count * EXT4_BLOCK;
    return 0;
}

/* Takes the next free run of at most want blocks. */
static int take_run(struct ext4_writer *w, uint64_t want, blk64_t *ret, uint64_t *got)
{
    blk64_t last = ext2fs_blocks_count(w->fs->super) - 1, start, end;
    if (w->next > last || ext2fs_find_first_zero_block_bitmap2(w->fs->block_map, w->next, last, &start))
        return ext4_fail(w, EXT2_ET_BLOCK_ALLOC_FAIL, "file system is full");
    uint64_t n = MIN_OF(want, last + 1 - start);
    if (n > 1 && ext2fs_find_first_set_block_bitmap2(w->fs->block_map, start, start + n - 1, &end) == 0)
        n = end - start;
    ext2fs_block_alloc_stats_range(w->fs, start, (blk_t)n, 1);
    w->next = start + n;
    *ret = start;
    *got = n;
    return 0;
}

static int write_run(struct ext4_writer *w, struct ext4_content *c, blk64_t at, uint64_t n)
{
    while (n) {
        uint64_t count = n;
        uint8_t *p;
        int r = chunk_room(w, at, &count, &p);
        if (r == 0)
            r = c->read(c, p, count);
        if (r < 0)
            return r;
        at += count;
        n -= count;
    }
    return 0;
}

/* Up to four extents lie in the inode itself (kernel: Documentation/filesystems/ext4/ifork.rst). */
static void inline_extents(struct ext2_inode_large *inode, const struct ext2fs_extent *list, size_t n)
{
    struct {
        struct ext3_extent_header head;
        struct ext3_extent extents[INLINE_EXTENTS];
    } root = {.head = {.eh_magic = EXT3_EXT_MAGIC, .eh_entries = (uint16_t)n, .eh_max = INLINE_EXTENTS}};
    _Static_assert(sizeof(root) == sizeof(inode->i_block), "the extent tree's root fills i_block");
    for (size_t i = 0; i < n; i++)
        root.extents[i] = (struct ext3_extent){
            .ee_block = (uint32_t)list[i].e_lblk,
            .ee_len = (uint16_t)list[i].e_len,
            .ee_start_hi = (uint16_t)(list[i].e_pblk >> 32),
            .ee_start = (uint32_t)list[i].e_pblk,
        };
    memcpy(inode->i_block, &root, sizeof(root));
}

/* More than that need blocks of their own; the library makes that tree. */
static errcode_t insert_extents(struct ext4_writer *w, ext2_ino_t ino, struct ext2_inode_large *inode,
                                const struct ext2fs_extent *list, size_t n)
{
    struct ext2_inode *small = (struct ext2_inode *)inode;
    ext2_extent_handle_t h;
    inline_extents(inode, list, 0);
    /* The library rewrites the inode as the tree grows, and reads what is there before. */
    errcode_t e = ext2fs_write_inode_full(w->fs, ino, small, sizeof(*inode));
    if (e == 0)
        e = ext2fs_extent_open2(w->fs, ino, small, &h);
    if (e)
        return e;
    for (size_t i = 0; i < n && e == 0; i++) {
        struct ext2fs_extent x = list[i];
        e = ext2fs_extent_insert(h, EXT2_EXTENT_INSERT_AFTER, &x);
    }
    if (e == 0)
        e = ext2fs_extent_fix_parents(h);
    ext2fs_extent_free(h);
    return e;
}

int ext4_write_content(struct ext4_writer *w, struct ext4_content *c, struct ext2_inode_large *inode)
{
    uint64_t n = c->entry->blocks;
    CLEAN_FREE struct ext2fs_extent *list = NULL;
    size_t count = 0;
    uint64_t done = 0;
    while (done < n) {
        blk64_t at = 0;
        uint64_t got = 0;
        int r = take_run(w, MIN_OF(n - done, EXT_INIT_MAX_LEN), &at, &got);
        if (r == 0)
            r = write_run(w, c, at, got);
        if (r < 0)
            return r;
        if ((count & (count - 1)) == 0) {
            struct ext2fs_extent *more = reallocarray(list, count ? count * 2 : 1, sizeof(*list));
            if (!more)
                return ext4_fail(w, ENOMEM, "ext4");
            list = more;
        }
        list[count++] = (struct ext2fs_extent){.e_pblk = at, .e_lblk = done, .e_len = (uint32_t)got};
        done += got;
    }
    inode->i_flags |= EXT4_EXTENTS_FL;
    ext2fs_iblk_set(w->fs, (struct ext2_inode *)inode, n);
    if (count <= INLINE_EXTENTS) {
        inline_extents(inode, list, count);
        return 0;
    }
    errcode_t e = insert_extents(w, c->entry->ino, inode, list, count);
    return e ? ext4_fail(w, e, "cannot record extents") : 0;
}
