#include "image/ext4.h"
#include "base/fd.h"

#include <errno.h>
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK          4096u
#define FIRST_INODE    12u /* 1 to 10 are reserved, 11 is lost+found */
#define COPY_BLOCKS    256u
#define MAX_EXTENT     32768u
#define BYTES_PER_INODE 16384u

struct hardlink {
    uint64_t id;
    ext2_ino_t ino;
};

struct writer {
    ext2_filsys fs;
    uint64_t time;
    ext2_ino_t next_ino;
    blk64_t goal;
    uint8_t *copy; /* COPY_BLOCKS blocks */
    struct hardlink *links;
    size_t n_links;
    struct mvm_error *err;
};

/* libext2fs speaks com_err codes. */
static int failed(struct mvm_error *err, errcode_t e, const char *what)
{
    int code = e == EXT2_ET_BLOCK_ALLOC_FAIL || e == EXT2_ET_INODE_ALLOC_FAIL ? -ENOSPC
               : e == EXT2_ET_NO_MEMORY                                       ? -ENOMEM
               : e > 0 && e < 200                                             ? -(int)e
                                                                              : -EIO;
    if (code == -EIO)
        return mvm_error_set(err, code, "%s: ext4: error %ld", what, (long)e);
    return mvm_error_errno(err, code, "%s", what);
}

/* ---- Size and layout ---- */

static void count_node(const struct fsnode *n, uint64_t *blocks, uint64_t *inodes)
{
    *inodes += 1;
    uint64_t names = 24;
    for (size_t i = 0; i < n->n_children; i++) {
        names += 8 + ((strlen(n->children[i]->name) + 3) & ~(size_t)3);
        count_node(n->children[i], blocks, inodes);
    }
    if (n->kind == FSNODE_DIR)
        *blocks += 1 + names * 9 / 8 / BLOCK;
    else if (n->kind == FSNODE_FILE)
        *blocks += (n->size + BLOCK - 1) / BLOCK + n->size / ((uint64_t)MAX_EXTENT * BLOCK) / 300;
    else if (n->kind == FSNODE_SYMLINK && n->size >= 60)
        *blocks += 1;
}

static void plan_size(const struct fstree *tree, const struct ext4_opts *o, struct ext2_super_block *param)
{
    uint64_t blocks = 16, inodes = 16;
    if (tree)
        count_node(tree->root, &blocks, &inodes);
    uint64_t total = o->size / BLOCK;
    if (total == 0) {
        uint64_t data = blocks + o->spare / BLOCK + (o->journal ? 4096 : 0);
        inodes += inodes / 8 + o->spare / BYTES_PER_INODE;
        uint64_t tables = (inodes * 256 + BLOCK - 1) / BLOCK;
        total = data + tables + 64;
        /* super block copies, descriptors and bitmaps of each group, and what rounding to groups costs */
        total += (total / 32768 + 1) * 40;
    } else {
        inodes = MAX_OF(inodes + 16, total * BLOCK / BYTES_PER_INODE);
    }
    ext2fs_blocks_count_set(param, total);
    param->s_inodes_count = (uint32_t)MIN_OF(inodes, (uint64_t)UINT32_MAX);
}

static void set_features(struct ext2_super_block *param, const struct ext4_opts *o)
{
    param->s_log_block_size = 2;
    param->s_rev_level = EXT2_DYNAMIC_REV;
    param->s_inode_size = 256;
    param->s_log_groups_per_flex = 4;
    param->s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR;
    param->s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_FLEX_BG;
    param->s_feature_ro_compat = EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
                                 EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
                                 EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM;
}

static void set_identity(ext2_filsys fs, const struct ext4_opts *o)
{
    struct ext2_super_block *sb = fs->super;
    fs->now = (time_t)(o->time ? o->time : 1);
    memcpy(sb->s_uuid, o->uuid, sizeof(sb->s_uuid));
    memcpy(sb->s_hash_seed, o->uuid, sizeof(sb->s_hash_seed));
    sb->s_def_hash_version = EXT2_HASH_HALF_MD4;
    sb->s_flags |= EXT2_FLAGS_UNSIGNED_HASH;
    sb->s_mkfs_time = sb->s_wtime = sb->s_lastcheck = (uint32_t)fs->now;
    sb->s_checkinterval = 0;
    sb->s_max_mnt_count = -1;
    sb->s_creator_os = EXT2_OS_LINUX;
    sb->s_want_extra_isize = sb->s_min_extra_isize = 32;
    sb->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
    sb->s_kbytes_written = 0;
    if (o->label)
        strncpy((char *)sb->s_volume_name, o->label, sizeof(sb->s_volume_name));
}

static errcode_t create(int fd, const struct fstree *tree, const struct ext4_opts *o, ext2_filsys *ret)
{
    struct ext2_super_block param = {0};
    plan_size(tree, o, &param);
    set_features(&param, o);
    if (ftruncate(fd, (off_t)(ext2fs_blocks_count(&param) * BLOCK)) < 0)
        return errno;
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ext2_filsys fs;
    errcode_t e = ext2fs_initialize(path, EXT2_FLAG_64BITS | EXT2_FLAG_EXCLUSIVE, &param, unix_io_manager, &fs);
    if (e)
        return e;
    set_identity(fs, o);
    e = ext2fs_allocate_tables(fs);
    if (e) {
        ext2fs_free(fs);
        return e;
    }
    /* The file is new and sparse: its inode tables are zero already. */
    for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
        ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
        ext2fs_group_desc_csum_set(fs, g);
    }
    *ret = fs;
    return 0;
}

/* ---- Inodes ---- */

static void init_inode(const struct writer *w, struct ext2_inode_large *inode, unsigned type, mode_t mode)
{
    *inode = (struct ext2_inode_large){.i_mode = (uint16_t)(type | mode), .i_links_count = 1, .i_extra_isize = 32};
    inode->i_atime = inode->i_ctime = inode->i_mtime = inode->i_crtime = (uint32_t)w->fs->now;
}

static errcode_t write_inode(struct writer *w, ext2_ino_t ino, struct ext2_inode_large *inode)
{
    return ext2fs_write_inode_full(w->fs, ino, (struct ext2_inode *)inode, sizeof(*inode));
}

static ext2_ino_t take_ino(struct writer *w, bool dir)
{
    ext2_ino_t ino = w->next_ino++;
    if (ino > w->fs->super->s_inodes_count)
        return 0;
    ext2fs_inode_alloc_stats2(w->fs, ino, 1, dir);
    return ino;
}

static errcode_t link_name(struct writer *w, ext2_ino_t dir, const char *name, ext2_ino_t ino, int type)
{
    errcode_t e = ext2fs_link(w->fs, dir, name, ino, type);
    if (e == EXT2_ET_DIR_NO_SPACE) {
        e = ext2fs_expand_dir(w->fs, dir);
        if (e == 0)
            e = ext2fs_link(w->fs, dir, name, ino, type);
    }
    return e;
}

/* ---- Content ---- */

/* Copies a file's bytes into consecutive blocks with large writes. Runs of zero blocks are written too: the file is small or dense. */
static errcode_t copy_run(struct writer *w, const struct fsnode *n, int fd, uint64_t at, blk64_t block, uint64_t count)
{
    while (count) {
        uint64_t now = MIN_OF(count, (uint64_t)COPY_BLOCKS);
        size_t want = (size_t)MIN_OF(now * BLOCK, n->size - at);
        if (n->memory) {
            memcpy(w->copy, n->memory + at, want);
        } else {
            int r = fd_pread_all(fd, w->copy, want, at);
            if (r < 0)
                return (errcode_t)-r;
        }
        memset(w->copy + want, 0, now * BLOCK - want);
        errcode_t e = io_channel_write_blk64(w->fs->io, block, (int)now, w->copy);
        if (e)
            return e;
        at += want;
        block += now;
        count -= now;
    }
    return 0;
}

/* Takes blocks in runs as long as there are, each one extent. */
static errcode_t fill(struct writer *w, const struct fsnode *n, int fd, ext2_extent_handle_t handle)
{
    uint64_t blocks = (n->size + BLOCK - 1) / BLOCK;
    for (uint64_t done = 0; done < blocks;) {
        blk64_t start = 0, got = 0;
        uint64_t want = MIN_OF(blocks - done, (uint64_t)MAX_EXTENT);
        errcode_t e = ext2fs_new_range(w->fs, 0, w->goal, want, NULL, &start, &got);
        if (e)
            return e;
        got = MIN_OF(got, want);
        ext2fs_block_alloc_stats_range(w->fs, start, got, 1);
        w->goal = start + got;
        e = copy_run(w, n, fd, done * BLOCK, start, got);
        if (e)
            return e;
        struct ext2fs_extent extent = {.e_pblk = start, .e_lblk = done, .e_len = (uint32_t)got};
        e = ext2fs_extent_insert(handle, EXT2_EXTENT_INSERT_AFTER, &extent);
        if (e)
            return e;
        done += got;
    }
    return 0;
}

static errcode_t write_content(struct writer *w, const struct fsnode *n, ext2_ino_t ino, struct ext2_inode_large *inode)
{
    CLEAN_FD int fd = -1;
    if (n->source && n->size) {
        fd = open(n->source, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return errno;
    }
    ext2_extent_handle_t handle;
    inode->i_flags |= EXT4_EXTENTS_FL;
    errcode_t e = ext2fs_extent_open2(w->fs, ino, (struct ext2_inode *)inode, &handle);
    if (e)
        return e;
    e = fill(w, n, fd, handle);
    ext2fs_extent_free(handle);
    if (e == 0)
        e = ext2fs_inode_size_set(w->fs, (struct ext2_inode *)inode, (ext2_off64_t)n->size);
    if (e == 0)
        e = ext2fs_iblk_add_blocks(w->fs, (struct ext2_inode *)inode, (n->size + BLOCK - 1) / BLOCK);
    return e;
}

static struct hardlink *find_link(struct writer *w, uint64_t id)
{
    for (size_t i = 0; id && i < w->n_links; i++)
        if (w->links[i].id == id)
            return &w->links[i];
    return NULL;
}

static errcode_t remember_link(struct writer *w, uint64_t id, ext2_ino_t ino)
{
    struct hardlink *more = reallocarray(w->links, w->n_links + 1, sizeof(*more));
    if (!more)
        return EXT2_ET_NO_MEMORY;
    w->links = more;
    w->links[w->n_links++] = (struct hardlink){id, ino};
    return 0;
}

static errcode_t add_again(struct writer *w, ext2_ino_t dir, const char *name, ext2_ino_t ino)
{
    struct ext2_inode_large inode;
    errcode_t e = ext2fs_read_inode_full(w->fs, ino, (struct ext2_inode *)&inode, sizeof(inode));
    if (e)
        return e;
    inode.i_links_count++;
    e = write_inode(w, ino, &inode);
    return e ? e : link_name(w, dir, name, ino, EXT2_FT_REG_FILE);
}

static errcode_t add_file(struct writer *w, ext2_ino_t dir, const struct fsnode *n)
{
    struct hardlink *same = find_link(w, n->hardlink_id);
    if (same)
        return add_again(w, dir, n->name, same->ino);
    ext2_ino_t ino = take_ino(w, false);
    if (!ino)
        return EXT2_ET_INODE_ALLOC_FAIL;
    struct ext2_inode_large inode;
    init_inode(w, &inode, LINUX_S_IFREG, n->mode);
    /* The extent code reads and writes the inode on the disk. */
    errcode_t e = write_inode(w, ino, &inode);
    if (e == 0)
        e = write_content(w, n, ino, &inode);
    if (e == 0)
        e = write_inode(w, ino, &inode);
    if (e == 0 && n->hardlink_id)
        e = remember_link(w, n->hardlink_id, ino);
    return e ? e : link_name(w, dir, n->name, ino, EXT2_FT_REG_FILE);
}

static errcode_t add_symlink(struct writer *w, ext2_ino_t dir, const struct fsnode *n)
{
    ext2_ino_t ino = w->next_ino++;
    errcode_t e = ext2fs_symlink(w->fs, dir, ino, n->name, n->target);
    if (e != EXT2_ET_DIR_NO_SPACE)
        return e;
    e = ext2fs_expand_dir(w->fs, dir);
    return e ? e : ext2fs_symlink(w->fs, dir, ino, n->name, n->target);
}

static errcode_t add_char(struct writer *w, ext2_ino_t dir, const struct fsnode *n)
{
    ext2_ino_t ino = take_ino(w, false);
    if (!ino)
        return EXT2_ET_INODE_ALLOC_FAIL;
    struct ext2_inode_large inode;
    init_inode(w, &inode, LINUX_S_IFCHR, n->mode);
    inode.i_block[0] = n->major << 8 | n->minor;
    errcode_t e = write_inode(w, ino, &inode);
    return e ? e : link_name(w, dir, n->name, ino, EXT2_FT_CHRDEV);
}

static errcode_t make_dir(struct writer *w, ext2_ino_t dir, const struct fsnode *n, ext2_ino_t *ret)
{
    ext2_ino_t ino = w->next_ino++;
    errcode_t e = ext2fs_mkdir(w->fs, dir, ino, n->name);
    if (e == EXT2_ET_DIR_NO_SPACE) {
        e = ext2fs_expand_dir(w->fs, dir);
        if (e == 0)
            e = ext2fs_mkdir(w->fs, dir, ino, n->name);
    }
    *ret = ino;
    return e;
}

static errcode_t set_dir_mode(struct writer *w, ext2_ino_t ino, mode_t mode)
{
    struct ext2_inode_large inode;
    errcode_t e = ext2fs_read_inode_full(w->fs, ino, (struct ext2_inode *)&inode, sizeof(inode));
    if (e)
        return e;
    inode.i_mode = (uint16_t)(LINUX_S_IFDIR | mode);
    return write_inode(w, ino, &inode);
}

static int add_children(struct writer *w, ext2_ino_t dir, const struct fsnode *node)
{
    for (size_t i = 0; i < node->n_children; i++) {
        const struct fsnode *n = node->children[i];
        ext2_ino_t sub = 0;
        errcode_t e = n->kind == FSNODE_DIR       ? make_dir(w, dir, n, &sub)
                      : n->kind == FSNODE_FILE    ? add_file(w, dir, n)
                      : n->kind == FSNODE_SYMLINK ? add_symlink(w, dir, n)
                                                  : add_char(w, dir, n);
        if (e == 0 && n->kind == FSNODE_DIR)
            e = set_dir_mode(w, sub, n->mode);
        if (e)
            return failed(w->err, e, n->name);
        if (n->kind == FSNODE_DIR) {
            int r = add_children(w, sub, n);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int populate(struct writer *w, const struct fstree *tree, const struct ext4_opts *o)
{
    ext2_filsys fs = w->fs;
    errcode_t e = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL);
    for (ext2_ino_t i = EXT2_ROOT_INO + 1; i < EXT2_FIRST_INODE(fs->super); i++)
        ext2fs_inode_alloc_stats2(fs, i, 1, 0);
    ext2fs_inode_alloc_stats2(fs, EXT2_BAD_INO, 1, 0);
    if (e == 0)
        e = ext2fs_mkdir(fs, EXT2_ROOT_INO, FIRST_INODE - 1, "lost+found");
    if (e == 0)
        e = set_dir_mode(w, FIRST_INODE - 1, 0700);
    if (e == 0)
        e = set_dir_mode(w, EXT2_ROOT_INO, tree ? tree->root->mode : 0755);
    if (e)
        return failed(w->err, e, "root folder");
    int r = tree ? add_children(w, EXT2_ROOT_INO, tree->root) : 0;
    if (r == 0 && o->journal) {
        uint64_t blocks = ext2fs_blocks_count(fs->super);
        e = ext2fs_add_journal_inode(fs, blocks > 1u << 20 ? 16384 : 1024, EXT2_MKJOURNAL_NO_MNT_CHECK);
        if (e)
            r = failed(w->err, e, "journal");
    }
    return r;
}

int ext4_write(int fd, const struct fstree *tree, const struct ext4_opts *opts, struct mvm_error *err)
{
    struct writer w = {.time = opts->time, .next_ino = FIRST_INODE, .err = err};
    errcode_t e = create(fd, tree, opts, &w.fs);
    if (e)
        return failed(err, e, "cannot make an ext4 file system");
    w.copy = malloc((size_t)COPY_BLOCKS * BLOCK);
    int r = w.copy ? populate(&w, tree, opts) : mvm_error_errno(err, -ENOMEM, "ext4");
    free(w.copy);
    free(w.links);
    if (r < 0) {
        ext2fs_free(w.fs);
        return mvm_error_wrap(err, "cannot make an ext4 file system");
    }
    e = ext2fs_close_free(&w.fs);
    return e ? failed(err, e, "cannot write an ext4 file system") : 0;
}

/* ---- Reading ---- */

static int open_image(const char *image, ext2_filsys *ret, struct mvm_error *err)
{
    errcode_t e = ext2fs_open(image, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, ret);
    if (e == 0)
        return 0;
    if (e > 0 && e < 200)
        return mvm_error_errno(err, -(int)e, "cannot open the file system");
    return mvm_error_set(err, -EINVAL, "it is no ext4 file system");
}

int ext4_has(const char *image, const char *path, struct mvm_error *err)
{
    ext2_filsys fs;
    int r = open_image(image, &fs, err);
    if (r < 0)
        return r;
    ext2_ino_t ino;
    errcode_t e = ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino);
    ext2fs_close_free(&fs);
    return e == 0;
}

static errcode_t read_out(ext2_filsys fs, const char *path, int out_fd)
{
    ext2_ino_t ino;
    ext2_file_t file;
    errcode_t e = ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino);
    if (e == 0)
        e = ext2fs_file_open(fs, ino, 0, &file);
    if (e)
        return e;
    char chunk[65536];
    for (;;) {
        unsigned got = 0;
        e = ext2fs_file_read(file, chunk, sizeof(chunk), &got);
        if (e || got == 0)
            break;
        int r = fd_write_all(out_fd, chunk, got);
        if (r < 0) {
            e = (errcode_t)-r;
            break;
        }
    }
    ext2fs_file_close(file);
    return e;
}

int ext4_extract(const char *image, const char *path, int out_fd, struct mvm_error *err)
{
    ext2_filsys fs;
    int r = open_image(image, &fs, err);
    if (r < 0)
        return r;
    errcode_t e = read_out(fs, path, out_fd);
    ext2fs_close_free(&fs);
    if (e == EXT2_ET_FILE_NOT_FOUND)
        return mvm_error_set(err, -ENOENT, "%s is not in the file system", path);
    return e ? failed(err, e, path) : 0;
}

int ext4_check_magic(int fd)
{
    uint8_t magic[2];
    int r = fd_pread_all(fd, magic, sizeof(magic), 1080);
    if (r == -ENODATA)
        return 0;
    return r < 0 ? r : magic[0] == 0x53 && magic[1] == 0xef;
}
