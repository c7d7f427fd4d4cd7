/* Looking into an ext4 image file without mounting it. The image may come from anywhere. */
#include "base/fd.h"
#include "image/ext4.h"

#include <endian.h>
#include <errno.h>
#include <et/com_err.h>
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <string.h>

#define MAGIC_AT 1080
#define SUPER_AT 1024
#define CHUNK    (1u << 20)

static void close_fs(ext2_filsys *fs)
{
    if (*fs)
        ext2fs_free(*fs);
}
#define CLEAN_FS CLEANUP(close_fs)

static int fail(struct mvm_error *err, errcode_t code, const char *image, const char *what)
{
    if (code > 0 && code < 4096) /* codes below com_err's tables are errno values */
        return mvm_error_errno(err, (int)-code, "%s: %s", image, what);
    initialize_ext2_error_table();
    int e = code == EXT2_ET_NO_MEMORY        ? -ENOMEM
            : code == EXT2_ET_FILE_NOT_FOUND ? -ENOENT
            : code == EXT2_ET_BAD_MAGIC      ? -EINVAL
                                             : -EBADMSG; /* what was read makes no sense */
    return mvm_error_set(err, e, "%s: %s: %s", image, what, error_message(code));
}

static int open_fs(const char *image, ext2_filsys *ret, struct mvm_error *err)
{
    errcode_t e = ext2fs_open(image, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, ret);
    if (e)
        *ret = NULL;
    return e ? fail(err, e, image, "cannot open as an ext4 file system") : 0;
}

/* 0 and an inode, or -ENOENT and so on. */
static int look_up(ext2_filsys fs, const char *image, const char *path, ext2_ino_t *ino, struct ext2_inode *inode,
                   struct mvm_error *err)
{
    errcode_t e = ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ino);
    /* A component that is a file, and a symlink that leads nowhere, are the same as nothing there.
     */
    if (e == EXT2_ET_NO_DIRECTORY || e == EXT2_ET_SYMLINK_LOOP)
        e = EXT2_ET_FILE_NOT_FOUND;
    if (e == 0)
        e = ext2fs_read_inode(fs, *ino, inode);
    return e ? fail(err, e, image, path) : 0;
}

int ext4_has(const char *image, const char *path, struct mvm_error *err)
{
    CLEAN_FS ext2_filsys fs = NULL;
    ext2_ino_t ino;
    struct ext2_inode inode;
    int r = open_fs(image, &fs, err);
    if (r < 0)
        return r;
    r = look_up(fs, image, path, &ino, &inode, err);
    if (r == -ENOENT)
        return 0;
    return r < 0 ? r : LINUX_S_ISREG(inode.i_mode) || LINUX_S_ISDIR(inode.i_mode);
}

static int copy_out(ext2_file_t file, uint64_t size, struct buf *out, errcode_t *code)
{
    CLEAN_FREE uint8_t *chunk = malloc(CHUNK);
    if (!chunk)
        return -ENOMEM;
    while (size) {
        unsigned got = 0;
        *code = ext2fs_file_read(file, chunk, (unsigned)MIN_OF(size, (uint64_t)CHUNK), &got);
        if (*code || got == 0)
            return -EIO;
        int r = buf_append(out, chunk, got);
        if (r < 0)
            return r;
        size -= got;
    }
    return 0;
}

int ext4_read(const char *image, const char *path, struct buf *out, struct mvm_error *err)
{
    CLEAN_FS ext2_filsys fs = NULL;
    ext2_ino_t ino;
    struct ext2_inode inode;
    int r = open_fs(image, &fs, err);
    if (r == 0)
        r = look_up(fs, image, path, &ino, &inode, err);
    if (r < 0)
        return r;
    if (!LINUX_S_ISREG(inode.i_mode))
        return mvm_error_set(err, -EINVAL, "%s: %s is not a regular file", image, path);
    uint64_t size = EXT2_I_SIZE(&inode);
    /* A damaged inode may claim a hole of any size. */
    if (size > ext2fs_blocks_count(fs->super) * fs->blocksize)
        return mvm_error_set(err, -EIO, "%s: %s is larger than the file system", image, path);
    ext2_file_t file;
    errcode_t e = ext2fs_file_open(fs, ino, 0, &file);
    if (e)
        return fail(err, e, image, path);
    r = copy_out(file, size, out, &e);
    ext2fs_file_close(file);
    if (e)
        return fail(err, e, image, path);
    return r < 0 ? mvm_error_errno(err, r, "cannot read %s in %s", path, image) : 0;
}

int ext4_check_magic(int fd)
{
    uint8_t magic[2];
    int r = fd_pread_all(fd, magic, sizeof(magic), MAGIC_AT);
    if (r == -ENODATA)
        return 0;
    return r < 0 ? r : magic[0] == 0x53 && magic[1] == 0xef;
}

int ext4_is_clean(int fd)
{
    struct ext2_super_block sb;
    int r = fd_pread_all(fd, &sb, sizeof(sb), SUPER_AT);
    if (r == -ENODATA)
        return 0;
    if (r < 0)
        return r;
    uint16_t state = le16toh(sb.s_state);
    return le16toh(sb.s_magic) == EXT2_SUPER_MAGIC && (state & EXT2_VALID_FS) && !(state & EXT2_ERROR_FS) &&
           !(le32toh(sb.s_feature_incompat) & EXT3_FEATURE_INCOMPAT_RECOVER);
}
