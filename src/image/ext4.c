/*
 * Writing an ext4 file system. libext2fs keeps what is hard to get right: super block, group
 * descriptors, bitmaps, inode checksums, the journal. Content does not go through its
 * block-by-block interface:
 *
 *  1. The tree is flattened breadth first (struct layout), so that a folder's children are
 * neighbours; inodes are numbered in that order, a second name of a hard link taking the first
 * one's number.
 *  2. What each inode needs is added up before anything is written; a file system "as small as
 * fits" is made from that sum, and one that is too small is refused at once.
 *  3. Blocks are taken in order from the first free one. Folders come first, then files, so that
 * nearly everything lies in one run; it is gathered in a buffer of a MiB and written with few large
 * writes.
 *
 * The file starts empty, so all that is not written is a hole that reads as zeros: inode tables are
 * zeroed already and are marked so, and the kernel has nothing left to initialize after mounting.
 */
#include "image/ext4.h"
#include "base/fd.h"
#include "image/ext4content.h"

#include <errno.h>
#include <et/com_err.h>
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Without the 64bit feature block numbers have 32 bits. */
#define MAX_BLOCKS      UINT32_MAX
#define BYTES_PER_INODE 16384u
#define SMALLEST_BLOCKS 64u

static void writer_done(struct ext4_writer *w)
{
    if (w->fs)
        ext2fs_free(w->fs);
    free(w->chunk);
}

/* ---- the empty file system ---- */

static unsigned journal_blocks(uint64_t blocks)
{
    /* 4 MiB below 128 MiB, 16 MiB, and 64 MiB from 4 GiB on: enough for a builder's bursts, little
     * to replay. */
    return blocks < (128u << 20) / EXT4_BLOCK ? 1024 : blocks < (1u << 20) ? 4096 : 16384;
}

static void fill_param(struct ext2_super_block *p, uint64_t blocks, uint64_t inodes)
{
    *p = (struct ext2_super_block){
        .s_blocks_count = (uint32_t)blocks,
        .s_inodes_count = (uint32_t)inodes,
        .s_log_block_size = 2,
        .s_log_cluster_size = 2,
        .s_rev_level = EXT2_DYNAMIC_REV,
        .s_inode_size = 256,
        .s_log_groups_per_flex = 4,
        .s_feature_compat = EXT2_FEATURE_COMPAT_DIR_INDEX | EXT2_FEATURE_COMPAT_EXT_ATTR,
        .s_feature_incompat =
            EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_FLEX_BG,
        .s_feature_ro_compat = EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
                               EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
                               EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM,
    };
}

/* What libext2fs would take from the clock and from chance. */
static void fix_super(struct ext4_writer *w)
{
    struct ext2_super_block *sb = w->fs->super;
    w->fs->now = w->time;
    sb->s_mkfs_time = sb->s_lastcheck = w->time;
    memcpy(sb->s_uuid, w->opts->uuid, sizeof(sb->s_uuid));
    memcpy(sb->s_hash_seed, w->opts->uuid, sizeof(sb->s_hash_seed));
    sb->s_def_hash_version = EXT2_HASH_HALF_MD4;
    /* How names are hashed must not follow the machine that made the image. */
    sb->s_flags &= ~(uint32_t)(EXT2_FLAGS_SIGNED_HASH | EXT2_FLAGS_UNSIGNED_HASH);
    sb->s_flags |= EXT2_FLAGS_SIGNED_HASH;
    sb->s_max_mnt_count = -1;
    sb->s_checkinterval = 0;
    sb->s_checksum_type = EXT2_CRC32C_CHKSUM;
    sb->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
    sb->s_creator_os = EXT2_OS_LINUX;
    if (w->opts->label)
        memcpy(sb->s_volume_name, w->opts->label, strlen(w->opts->label));
    ext2fs_init_csum_seed(w->fs);
}

/* Lays out the groups with their tables, which take blocks of their own: those that are free behind it are for content.
 * -ENOSPC, which the caller explains, where so many inodes do not fit so few blocks. */
static int open_fs(struct ext4_writer *w, uint64_t blocks, uint64_t inodes)
{
    /* The library closes what it was given. */
    int own = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return ext4_fail(w, errno, "ext4");
    char name[16];
    snprintf(name, sizeof(name), "%d", own);
    struct ext2_super_block param;
    fill_param(&param, blocks, inodes);
    errcode_t e = ext2fs_initialize(name, EXT2_FLAG_64BITS, &param, unixfd_io_manager, &w->fs);
    if (e) {
        w->fs = NULL;
        return e == EXT2_ET_TOOSMALL ? -ENOSPC : ext4_fail(w, e, "cannot lay out the file system");
    }
    fix_super(w);
    e = ext2fs_allocate_tables(w->fs);
    return e ? ext4_fail(w, e, "cannot lay out the block groups") : 0;
}

/* Finds the smallest size that holds `needed` free blocks: how much the groups take is known only
 * once they are laid out, and a last group that is too short is dropped by the library. */
static int open_smallest(struct ext4_writer *w, uint64_t needed, uint64_t inodes)
{
    uint64_t blocks = MAX_OF(needed + needed / 128 + inodes / 16, (uint64_t)SMALLEST_BLOCKS);
    for (unsigned tries = 0; tries < 64; tries++) {
        if (blocks > MAX_BLOCKS)
            return mvm_error_set(w->err, -EFBIG, "content is too large for one file system");
        int r = open_fs(w, blocks, inodes);
        if (r == -ENOSPC) {
            blocks += MAX_OF(inodes / 16, (uint64_t)SMALLEST_BLOCKS);
            continue;
        }
        if (r < 0)
            return r;
        uint64_t have = ext2fs_free_blocks_count(w->fs->super);
        if (have >= needed)
            return 0;
        ext2fs_free(w->fs);
        w->fs = NULL;
        blocks += MAX_OF(needed - have, (uint64_t)SMALLEST_BLOCKS);
    }
    return mvm_error_set(w->err, -EFBIG, "content fits no file system");
}

static int open_sized(struct ext4_writer *w, uint64_t needed, uint64_t inodes)
{
    uint64_t blocks = w->opts->size / EXT4_BLOCK;
    if (blocks > MAX_BLOCKS || blocks < SMALLEST_BLOCKS)
        return mvm_error_set(w->err, -EINVAL, "no file system can have %llu bytes", (unsigned long long)w->opts->size);
    inodes = MAX_OF(inodes, w->opts->size / BYTES_PER_INODE);
    int r = open_fs(w, blocks, MIN_OF(inodes, (uint64_t)UINT32_MAX));
    if (r == -ENOSPC)
        return mvm_error_set(w->err, -ENOSPC, "%llu files do not fit a file system of %llu MiB",
                             (unsigned long long)inodes, (unsigned long long)(w->opts->size >> 20));
    if (r < 0)
        return r;
    uint64_t have = ext2fs_free_blocks_count(w->fs->super);
    if (have < needed)
        return mvm_error_set(w->err, -ENOSPC, "content needs %llu MiB, the file system has %llu MiB",
                             (unsigned long long)(needed * EXT4_BLOCK >> 20) + 1,
                             (unsigned long long)(have * EXT4_BLOCK >> 20));
    return 0;
}

static int make_empty(struct ext4_writer *w)
{
    const struct ext4_opts *o = w->opts;
    uint64_t inodes = EXT4_FIRST_INODE + w->layout->n_inodes + o->spare / BYTES_PER_INODE;
    uint64_t needed = w->layout->blocks + (o->spare + EXT4_BLOCK - 1) / EXT4_BLOCK;
    if (o->journal)
        needed += journal_blocks(o->size ? o->size / EXT4_BLOCK : needed);
    int r = o->size ? open_sized(w, needed, inodes) : open_smallest(w, needed, inodes);
    if (r < 0)
        return r;
    if (ftruncate(w->fd, (off_t)(ext2fs_blocks_count(w->fs->super) * EXT4_BLOCK)) < 0)
        return ext4_fail(w, errno, "cannot size the file");
    for (ext2_ino_t i = 1; i < EXT4_FIRST_INODE; i++)
        ext2fs_inode_alloc_stats2(w->fs, i, 1, i == EXT2_ROOT_INO);
    return 0;
}

/* ---- inodes ---- */

static int read_file(struct ext4_content *c, uint8_t *p, uint64_t n_blocks)
{
    size_t room = n_blocks * EXT4_BLOCK, n = (size_t)MIN_OF((uint64_t)room, c->left);
    c->left -= n;
    memset(p + n, 0, room - n);
    return fsnode_reader_read(&c->reader, p, n, c->w->err);
}

static int read_symlink(struct ext4_content *c, uint8_t *p, uint64_t n_blocks)
{
    memset(p, 0, n_blocks * EXT4_BLOCK);
    memcpy(p, c->entry->node->target, c->left);
    return 0;
}

static int read_dir(struct ext4_content *c, uint8_t *p, uint64_t n_blocks)
{
    ext2_filsys fs = c->w->fs;
    for (uint64_t i = 0; i < n_blocks; i++, p += EXT4_BLOCK) {
        ext4_layout_dir_block(c->w->layout, c->entry, &c->child, p);
        ext2fs_initialize_dirent_tail(fs, EXT2_DIRENT_TAIL(p, EXT4_BLOCK));
        errcode_t e = ext2fs_dir_block_csum_set(fs, c->entry->ino, (struct ext2_dir_entry *)(void *)p);
        if (e)
            return ext4_fail(c->w, e, "cannot make a folder");
    }
    return 0;
}

static int write_file(struct ext4_writer *w, struct ext4_content *c, struct ext2_inode_large *inode)
{
    c->read = read_file;
    int r = fsnode_reader_open(&c->reader, c->entry->node, w->err);
    if (r == 0)
        r = ext4_write_content(w, c, inode);
    fsnode_reader_close(&c->reader);
    return r;
}

static int write_symlink(struct ext4_writer *w, struct ext4_content *c, struct ext2_inode_large *inode)
{
    c->read = read_symlink;
    if (c->entry->blocks)
        return ext4_write_content(w, c, inode);
    memcpy(inode->i_block, c->entry->node->target, c->entry->size);
    return 0;
}

/* kernel: include/linux/kdev_t.h, old_encode_dev and new_encode_dev; fs/ext4/inode.c says which
 * goes where. */
static void set_device(struct ext2_inode_large *inode, unsigned major, unsigned minor)
{
    if (major < 256 && minor < 256)
        inode->i_block[0] = major << 8 | minor;
    else
        inode->i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

static unsigned file_mode(const struct fsnode *n)
{
    static const unsigned types[] = {
        [FSNODE_DIR] = LINUX_S_IFDIR,
        [FSNODE_FILE] = LINUX_S_IFREG,
        [FSNODE_SYMLINK] = LINUX_S_IFLNK,
        [FSNODE_CHAR] = LINUX_S_IFCHR,
    };
    return types[n->kind] | n->mode;
}

static int write_entry(struct ext4_writer *w, const struct ext4_entry *e)
{
    const struct fsnode *n = e->node;
    struct ext2_inode_large inode = {
        .i_mode = (uint16_t)file_mode(n),
        .i_uid = (uint16_t)n->uid,
        .i_gid = (uint16_t)n->gid,
        .osd2.linux2 = {.l_i_uid_high = (uint16_t)(n->uid >> 16), .l_i_gid_high = (uint16_t)(n->gid >> 16)},
        .i_links_count = (uint16_t)e->links,
        .i_extra_isize = sizeof(inode) - EXT2_GOOD_OLD_INODE_SIZE,
        .i_atime = w->time,
        .i_ctime = w->time,
        .i_mtime = w->time,
        .i_crtime = w->time,
    };
    struct ext2_inode *small = (struct ext2_inode *)&inode;
    struct ext4_content c = {.w = w, .entry = e, .reader = FSNODE_READER_INIT, .left = e->size};
    errcode_t bad = ext2fs_inode_size_set(w->fs, small, (ext2_off64_t)e->size);
    int r = bad ? ext4_fail(w, bad, n->name) : 0;
    if (r == 0 && n->kind == FSNODE_DIR) {
        c.read = read_dir;
        r = ext4_write_content(w, &c, &inode);
    } else if (r == 0 && n->kind == FSNODE_FILE) {
        r = write_file(w, &c, &inode);
    } else if (r == 0 && n->kind == FSNODE_SYMLINK) {
        r = write_symlink(w, &c, &inode);
    } else if (r == 0) {
        set_device(&inode, n->major, n->minor);
    }
    if (r < 0)
        return r;
    if (e->ino >= EXT4_FIRST_INODE)
        ext2fs_inode_alloc_stats2(w->fs, e->ino, 1, n->kind == FSNODE_DIR);
    bad = ext2fs_write_inode_full(w->fs, e->ino, small, sizeof(inode));
    return bad ? ext4_fail(w, bad, n->name) : 0;
}

/* Folders first: looking a path up reads them all from one place. */
static int write_entries(struct ext4_writer *w)
{
    w->chunk = malloc((size_t)EXT4_CHUNK_BLOCKS * EXT4_BLOCK);
    if (!w->chunk)
        return ext4_fail(w, ENOMEM, "ext4");
    for (int files = 0; files < 2; files++)
        for (size_t i = 0; i < w->layout->n; i++) {
            const struct ext4_entry *e = &w->layout->entries[i];
            if (e->again || (e->node->kind != FSNODE_DIR) != files)
                continue;
            int r = write_entry(w, e);
            if (r < 0)
                return r;
        }
    return ext4_flush_chunk(w);
}

static int write_journal(struct ext4_writer *w)
{
    struct ext2fs_journal_params params = {
        .num_journal_blocks = journal_blocks(ext2fs_blocks_count(w->fs->super)),
    };
    /* "Lazy" leaves the journal's blocks unwritten: they are holes of the file, zero as they should
     * be. */
    errcode_t e =
        ext2fs_add_journal_inode3(w->fs, &params, w->next, EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
    return e ? ext4_fail(w, e, "cannot make the journal") : 0;
}

static int finish(struct ext4_writer *w)
{
    errcode_t e = ext2fs_set_gdt_csum(w->fs);
    if (e)
        return ext4_fail(w, e, "cannot finish the file system");
    /* Syncing is the caller's. */
    e = ext2fs_close2(w->fs, EXT2_FLAG_FLUSH_NO_SYNC);
    if (e)
        return ext4_fail(w, e, "cannot write the file system");
    w->fs = NULL;
    return 0;
}

int ext4_write(int fd, const struct fstree *tree, const struct ext4_opts *opts, struct mvm_error *err)
{
    if (opts->label && strlen(opts->label) > 16)
        return mvm_error_set(err, -EINVAL, "file system label '%s' is longer than 16 bytes", opts->label);
    CLEANUP(ext4_layout_done) struct ext4_layout layout = {0};
    int r = ext4_layout_init(&layout, tree, err);
    if (r < 0)
        return r;
    CLEANUP(writer_done)
    struct ext4_writer w = {
        .fd = fd,
        .layout = &layout,
        .opts = opts,
        /* The library takes 0 for "ask the clock". Seconds since 1970 have 32 bits here. */
        .time = (uint32_t)MAX_OF(MIN_OF(opts->time, (uint64_t)INT32_MAX), 1u),
        .err = err,
    };
    r = make_empty(&w);
    if (r == 0)
        r = write_entries(&w);
    if (r == 0 && opts->journal)
        r = write_journal(&w);
    return r < 0 ? r : finish(&w);
}
