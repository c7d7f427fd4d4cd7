/*
 * A good ext4 image that is damaged in any way, as what comes from elsewhere may be: looking into it finds an answer or
 * an error, and reads no more than the caller's maximum.
 */
#include "folder.h"

#include "image/ext4.h"
#include "image/ext4layout.h"

#include <string.h>

#define MAX_READ     (64u << 10)
#define SUPER        1024u
#define RO_COMPAT    (SUPER + 0x64)
#define METADATA_SUM 0x04u /* bit 10, in the second byte */

static uint8_t *image;
static size_t image_size;
static size_t inode_table;

static void make_tree(struct fstree *t)
{
    static uint8_t content[100000];
    MUST(fstree_init(t) == 0);
    memset(content, 'x', sizeof(content));
    MUST(fstree_add_memory(t, "etc/passwd", 0644, "root:x:0:0::/root:/bin/sh\n", 26, NULL) == 0);
    MUST(fstree_add_memory(t, "big", 0644, content, sizeof(content), NULL) == 0);
    MUST(fstree_add_symlink(t, "etc/link", "passwd", NULL) == 0);
    MUST(fstree_add_symlink(t, "etc/loop", "loop", NULL) == 0);
    MUST(fstree_add_symlink(t, "abs", "/etc/../etc/./passwd", NULL) == 0);
    for (int i = 0; i < 400; i++) {
        char name[32];
        snprintf(name, sizeof(name), "dir/a-name-of-some-bytes-%d", i);
        MUST(fstree_add_memory(t, name, 0644, NULL, 0, NULL) == 0);
    }
}

static void prepare(void)
{
    CLEAN_FSTREE struct fstree t = {0};
    const struct ext4_opts opts = {.time = 1, .label = "fuzz"};
    folder_enter();
    CLEAN_FD int fd = open("image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    make_tree(&t);
    struct mvm_error err = MVM_ERROR_INIT;
    if (ext4_write(fd, &t, &opts, &err) < 0)
        fprintf(stderr, "%s\n", err.msg);
    MUST(fd >= 0 && err.code == 0);
    image_size = (size_t)lseek(fd, 0, SEEK_END);
    image = malloc(image_size);
    MUST(image && fd_pread_all(fd, image, image_size, 0) == 0);
    image[RO_COMPAT + 1] &= (uint8_t)~METADATA_SUM; /* who forges an image forges its checksums */
    uint32_t block;
    memcpy(&block, image + EXT4_BLOCK + 8, sizeof(block)); /* bg_inode_table_lo */
    inode_table = (size_t)block * EXT4_BLOCK;
    MUST(inode_table < image_size);
}

/* Some bytes anywhere, in the super block, in the group descriptors, in an inode. */
static void damage(uint8_t *p, struct input *in)
{
    size_t n, at, wanted;
    uint8_t how = input_u8(in);
    switch (how % 4) {
    case 0:
        at = (size_t)input_u16(in) << 8;
        at |= input_u8(in);
        break;
    case 1:
        at = SUPER + input_u16(in) % 1024;
        break;
    case 2:
        at = EXT4_BLOCK + input_u8(in);
        break;
    default:
        at = inode_table + input_u16(in) % (64 * 256);
    }
    wanted = how / 4 % 16 + 1;
    const uint8_t *bytes = input_bytes(in, wanted, &n);
    if (at < image_size && n)
        memcpy(p + at, bytes, n < image_size - at ? n : image_size - at);
}

static void look(void)
{
    static const char *const names[] = {
        "/etc/passwd", "/etc/link", "/etc/loop",     "/abs",        "/big",
        "/",           "/dir",      "/etc/passwd/x", "/lost+found", "/dir/a-name-of-some-bytes-399"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct buf out = BUF_INIT(MAX_READ);
        struct mvm_error err = MVM_ERROR_INIT;
        int r = ext4_has("image", names[i], &err);
        MUST(r == 0 || r == 1 || (r < 0 && err.msg[0]));
        r = ext4_read("image", names[i], &out, &err);
        MUST(out.len <= MAX_READ && (r == 0 || err.msg[0]));
        buf_done(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    if (!image)
        prepare();
    uint8_t *copy = malloc(image_size);
    MUST(copy);
    memcpy(copy, image, image_size);
    size_t cut = input_u8(&in);
    while (in.left)
        damage(copy, &in);
    folder_put("image", copy, cut ? image_size / 256 * cut : image_size);
    free(copy);
    CLEAN_FD int fd = open("image", O_RDONLY | O_CLOEXEC);
    int r = ext4_check_magic(fd);
    MUST(r == 0 || r == 1);
    r = ext4_is_clean(fd);
    MUST(r == 0 || r == 1);
    look();
    return 0;
}
