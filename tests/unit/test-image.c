#include "tap.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "image/cpio.h"
#include "image/ext4.h"
#include "image/ext4content.h"
#include "image/fsnode.h"
#include "image/kernel.h"
#include "image/manifest.h"
#include "image/spec_store.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

/* Everything is made in a folder of its own, which is the working directory. */
static int here = -1;

static int fresh(const char *name)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        abort();
    return fd;
}

static void put_file(const char *name, const void *p, size_t n)
{
    CLEAN_FD int fd = fresh(name);
    if (fd_write_all(fd, p, n) < 0)
        abort();
}

static void must(int r)
{
    if (r < 0)
        abort();
}

static bool same_files(const char *a, const char *b)
{
    CLEAN_BUF struct buf x = BUF_INIT(64u << 20);
    CLEAN_BUF struct buf y = BUF_INIT(64u << 20);
    return path_read_file(here, a, &x, NULL) == 0 && path_read_file(here, b, &y, NULL) == 0 && x.len == y.len &&
           memcmp(x.data, y.data, x.len) == 0;
}

static bool says(const struct mvm_error *err, const char *what)
{
    if (strstr(err->msg, what))
        return true;
    printf("# error is: %s\n", err->msg);
    return false;
}

/* Runs a program: its exit status, output in out. */
static int run(const char *const *argv, struct buf *out)
{
    const struct process_opts o = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    return process_capture(&o, NULL, out, clock_deadline(60000), NULL);
}

/* ---- trees ---- */

static void test_tree(void)
{
    CLEAN_FSTREE struct fstree t = {0};
    struct mvm_error err = MVM_ERROR_INIT;
    int r = fstree_init(&t);
    r |= fstree_add_memory(&t, "b/two", 0644, "22", 2, &err);
    r |= fstree_add_memory(&t, "/b/one", 0600, "1", 1, &err);
    r |= fstree_add_symlink(&t, "a", "b/one", &err);
    r |= fstree_add_memory(&t, "b-", 0644, "", 0, &err);
    ok(r == 0 && t.n_nodes == 6 && t.total_bytes == 3, "nodes and bytes are counted");
    const struct fsnode *root = t.root;
    ok(root->n_children == 3 && !strcmp(root->children[0]->name, "a") && !strcmp(root->children[1]->name, "b") &&
           !strcmp(root->children[2]->name, "b-"),
       "children are sorted by bytes");
    const struct fsnode *b = fstree_find(&t, "/b");
    ok(b && b->mode == 0755 && !strcmp(b->children[0]->name, "one"), "missing parents have mode 0755");
    ok(fstree_add_dir(&t, "b", 01777, &err) == 0 && fstree_find(&t, "b") == b && b->mode == 01777 && b->n_children == 2,
       "a folder over a folder keeps its children");
    ok(fstree_add_memory(&t, "b/two", 0644, "xyz", 3, &err) == 0 && t.total_bytes == 4 && t.n_nodes == 6,
       "a file over a file replaces it");
    ok(fstree_add_memory(&t, "a/x", 0644, "", 0, &err) == -ENOTDIR, "nothing is added below a symlink");
    ok(fstree_add_memory(&t, "b/../x", 0644, "", 0, &err) == -EINVAL, "'..' is refused");
    ok(fstree_add_memory(&t, "/", 0644, "", 0, &err) == -EISDIR, "the root stays a folder");
    ok(fstree_add_memory(&t, "b", 0644, "f", 1, &err) == 0 && t.n_nodes == 4 && t.total_bytes == 1,
       "a file over a folder takes all below it away");
    ok(fstree_add_dir(&t, "", 0700, &err) == 0 && t.root->mode == 0700, "the root takes a mode");
    ok(!fstree_find(&t, "b/one") && fstree_find(&t, "") == t.root, "what is gone is not found");
}

static bool not_skipped(const char *path, void *data)
{
    return strcmp(path, "sub/skip") == 0;
}

static void test_tree_from_folder(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    must(mkdir("src", 0755));
    must(mkdir("src/sub", 0750));
    must(mkdir("src/sub/skip", 0755));
    put_file("src/sub/skip/x", "x", 1);
    put_file("src/sub/tool", "#!", 2);
    must(chmod("src/sub/tool", 04755));
    must(link("src/sub/tool", "src/again"));
    must(symlink("sub/tool", "src/link"));
    must(mkfifo("src/fifo", 0644));
    CLEAN_FSTREE struct fstree t = {0};
    int r = fstree_init(&t);
    r |= fstree_add_tree(&t, "opt/x", "src", not_skipped, NULL, &err);
    const struct fsnode *tool = fstree_find(&t, "opt/x/sub/tool"), *again = fstree_find(&t, "opt/x/again");
    ok(r == 0 && tool && tool->mode == 04755 && tool->size == 2, "a folder is taken in, setuid bits kept");
    ok(again && again->hardlink_id && tool && again->hardlink_id == tool->hardlink_id, "hard links are known as such");
    ok(!fstree_find(&t, "opt/x/sub/skip") && !fstree_find(&t, "opt/x/fifo"), "what is excluded and fifos are left out");
    const struct fsnode *l = fstree_find(&t, "opt/x/link"), *sub = fstree_find(&t, "opt/x/sub");
    ok(l && !strcmp(l->target, "sub/tool") && sub && sub->mode == 0750, "symlinks and modes are kept");
    put_file("src/sub/tool", "#! longer", 9);
    CLEAN_FD int fd = fresh("stale.ext4");
    const struct ext4_opts o = {.time = 1};
    /* The hard link's first name in breadth-first order still has the old inode; drop it to meet
     * the changed file. */
    unlink("src/again");
    ok(ext4_write(fd, &t, &o, &err) < 0, "a source that changed or went is an error");
}

/* ---- ext4 ---- */

static const struct ext4_opts fs_opts = {.uuid = {1, 2, 3, 4}, .label = "sixteen-bytes-ok", .time = 1700000000};

static void add_sample(struct fstree *t, unsigned order)
{
    static char big[1000000], target[200];
    memset(big, 'b', sizeof(big));
    big[sizeof(big) - 1] = '$';
    /* too long to lie in the inode */
    for (size_t i = 0; i < 196; i += 2)
        memcpy(target + i, "./", 2);
    memcpy(target + 196, "big", 4);
    int r = 0;
    for (unsigned i = 0; i < 3000; i++) {
        /* another order of adding for each value of `order`; 7 and 3000 have no common factor */
        unsigned k = order ? (i * 7 + order) % 3000 : i;
        char name[512];
        snprintf(name, sizeof(name), "many/a-rather-long-name-for-a-file-%u", k);
        r |= fstree_add_memory(t, name, 0444, name, strlen(name), NULL);
    }
    if (order)
        r |= fstree_add_symlink(t, "long", target, NULL);
    r |= fstree_add_memory(t, "big", 04755, big, sizeof(big), NULL);
    r |= fstree_add_memory(t, "etc/empty", 0644, "", 0, NULL);
    r |= fstree_add_char(t, "dev/console", 0600, 5, 1, NULL);
    r |= fstree_add_char(t, "dev/far", 0600, 300, 70000, NULL);
    r |= fstree_add_symlink(t, "etc/alias", "/big", NULL);
    r |= fstree_add_symlink(t, "etc/broken", "nowhere", NULL);
    if (!order)
        r |= fstree_add_symlink(t, "long", target, NULL);
    if (r)
        abort();
}

static int write_sample(const char *file, unsigned order, const struct ext4_opts *o)
{
    CLEAN_FSTREE struct fstree t = {0};
    struct mvm_error err = MVM_ERROR_INIT;
    if (fstree_init(&t) < 0)
        abort();
    add_sample(&t, order);
    CLEAN_FD int fd = fresh(file);
    int r = ext4_write(fd, &t, o, &err);
    if (r < 0)
        printf("# %s\n", err.msg);
    return r;
}

static void check_clean(const char *image)
{
    if (access("/sbin/e2fsck", X_OK) < 0) {
        ok(true, "e2fsck finds no fault in %s # SKIP no e2fsck here", image);
        return;
    }
    CLEAN_FREE char *full = path_join("/proc/self/cwd", image, NULL);
    CLEAN_BUF struct buf out = BUF_INIT(65536);
    const char *argv[] = {"/sbin/e2fsck", "-fn", full, NULL};
    ok(run(argv, &out) == 0, "e2fsck finds no fault in %s", image);
}

static void test_ext4_content(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_BUF struct buf b = BUF_INIT(2u << 20);
    ok(ext4_read("a.ext4", "/etc/alias", &b, &err) == 0, "a file is read back through a symlink");
    ok(b.len == 1000000 && b.data[0] == 'b' && b.data[999999] == '$', "with its content");
    ok(ext4_has("a.ext4", "/many/a-rather-long-name-for-a-file-2999", &err) == 1 &&
           ext4_has("a.ext4", "many", &err) == 1,
       "files of a large folder are found");
    ok(ext4_has("a.ext4", "/long", &err) == 1, "a long symlink leads where it should");
    ok(ext4_has("a.ext4", "/nowhere", &err) == 0 && ext4_has("a.ext4", "/big/x", &err) == 0 &&
           ext4_has("a.ext4", "/etc/broken", &err) == 0 && ext4_has("a.ext4", "/dev/console", &err) == 0,
       "what is absent, leads nowhere or is a device is not");
    ok(ext4_read("a.ext4", "/nowhere", &b, &err) == -ENOENT && ext4_read("a.ext4", "/many", &b, &err) == -EINVAL,
       "only files are read");
    CLEAN_BUF struct buf small = BUF_INIT(1000);
    ok(ext4_read("a.ext4", "/etc/alias", &small, &err) < 0, "and no more than there is room for");
    put_file("junk", "x", 1);
    ok(ext4_has("junk", "/", &err) < 0 && ext4_has("absent", "/", &err) == -ENOENT,
       "what is no file system is an error");
}

static void test_ext4(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    ok(write_sample("a.ext4", 0, &fs_opts) == 0, "a file system is made");
    check_clean("a.ext4");
    sleep(1); /* the clock must not be seen in it */
    ok(write_sample("b.ext4", 1234, &fs_opts) == 0 && same_files("a.ext4", "b.ext4"),
       "another order of adding gives the same bytes");
    test_ext4_content();
    struct ext4_opts o = fs_opts;
    o.journal = true;
    o.spare = 8u << 20;
    ok(write_sample("j.ext4", 0, &o) == 0, "with a journal and spare room");
    check_clean("j.ext4");
    o.size = 2u << 20;
    ok(write_sample("small.ext4", 0, &o) == -ENOSPC, "content that does not fit is refused");
    o.label = "seventeen-bytes-x";
    ok(write_sample("small.ext4", 0, &o) == -EINVAL, "so is a label that is too long");
    {
        CLEAN_FD int fd = fresh("disk.ext4");
        struct stat st = {0};
        const struct ext4_opts disk = {.size = (uint64_t)64 << 30, .journal = true, .time = 1};
        ok(ext4_write(fd, NULL, &disk, &err) == 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)64 << 30 &&
               st.st_blocks < 8192,
           "an empty disk of 64 GiB takes less than 4 MiB (%lld KiB)", (long long)st.st_blocks / 2);
    }
    check_clean("disk.ext4");
    CLEAN_FD int fd = open("a.ext4", O_RDONLY | O_CLOEXEC), junk = open("junk", O_RDONLY | O_CLOEXEC);
    ok(ext4_check_magic(fd) == 1 && ext4_check_magic(junk) == 0, "the magic tells ext4 from a short file");
}

/* They have inodes and no blocks: the table of inodes is most of the image. */
static void test_ext4_empty_files(void)
{
    static const struct ext4_opts o = {.time = 1};
    static const unsigned counts[] = {400, 20000};
    for (size_t k = 0; k < ARRAY_SIZE(counts); k++) {
        struct mvm_error err = MVM_ERROR_INIT;
        CLEAN_FSTREE struct fstree t = {0};
        int r = fstree_init(&t);
        for (unsigned i = 0; i < counts[k]; i++) {
            char name[32];
            snprintf(name, sizeof(name), "d/%u", i);
            r |= fstree_add_memory(&t, name, 0644, "", 0, NULL);
        }
        CLEAN_FD int fd = fresh("empty.ext4");
        ok(r == 0 && ext4_write(fd, &t, &o, &err) == 0 && err.code == 0, "a tree of %u empty files is an image%s%s",
           counts[k], err.code ? ": " : "", err.msg);
        check_clean("empty.ext4");
    }
}

/* Runs of free blocks end at the super block's copies, extents at 128 MiB: the largest file needs
 * an extent tree of its own. The sources are holes, which stay holes in the image. */
static void test_ext4_sizes(void)
{
    static const uint64_t sizes[] = {0, 1, 4096, 4097, 100u << 20, 700u << 20};
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_FSTREE struct fstree t = {0};
    int r = fstree_init(&t);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char name[32];
        snprintf(name, sizeof(name), "sparse-%zu", i);
        CLEAN_FD int fd = fresh(name);
        if (ftruncate(fd, (off_t)sizes[i]) < 0)
            abort();
        r |= fstree_add_file(&t, name, 0644, name, &err);
    }
    CLEAN_FD int fd = fresh("sizes.ext4");
    struct stat st;
    ok(r == 0 && ext4_write(fd, &t, &fs_opts, &err) == 0, "files of odd sizes are written");
    ok(fstat(fd, &st) == 0 && st.st_size > 800 << 20 && st.st_blocks < 8192, "zeros take no room");
    check_clean("sizes.ext4");
}

static void test_hard_links(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    must(mkdir("links", 0755));
    put_file("links/first", "same", 4);
    must(link("links/first", "links/second"));
    CLEAN_FSTREE struct fstree t = {0};
    int r = fstree_init(&t);
    r |= fstree_add_tree(&t, "", "links", NULL, NULL, &err);
    CLEAN_FD int fd = fresh("links.ext4");
    ok(r == 0 && ext4_write(fd, &t, &fs_opts, &err) == 0, "hard links are written");
    check_clean("links.ext4");
    CLEAN_BUF struct buf out = BUF_INIT(65536);
    const char *argv[] = {"/sbin/debugfs", "-R", "stat /second", "links.ext4", NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    if (access(argv[0], X_OK) == 0)
        ok(process_capture(&o, &out, NULL, clock_deadline(60000), NULL) == 0 && strstr(buf_cstr(&out), "Links: 2"),
           "they share an inode");
}

/* ---- cpio ---- */

static void test_cpio(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_FSTREE struct fstree t = {0};
    int r = fstree_init(&t);
    r |= fstree_add_symlink(&t, "d/l", "init", &err);
    r |= fstree_add_char(&t, "c", 0600, 5, 1, &err);
    r |= fstree_add_memory(&t, "init", 0755, "hello", 5, &err);
    CLEAN_FD int fd = fresh("initrd");
    ok(r == 0 && cpio_write(fd, &t, &err) == 0, "an archive is written");
#define HEAD(ino, mode, links, size, major, minor, name)                                                               \
    "070701" ino mode "00000000"                                                                                       \
    "00000000" links "00000000" size "00000000"                                                                        \
    "00000000" major minor name "00000000"
#define ZERO "00000000"
#define ONE  "00000001"
    static const char want[] = HEAD(ONE, "00002180", ONE, ZERO, "00000005", ONE, "00000002") "c\0" HEAD(
        "00000002", "000041ED", "00000002", ZERO, ZERO, ZERO,
        "00000002") "d\0" HEAD("00000003", "0000A1FF", ONE, "00000004", ZERO, ZERO,
                               "00000004") "d/l\0\0\0"
                                           "init" HEAD("00000004", "000081ED", ONE, "00000005", ZERO, ZERO,
                                                       "00000005") "init\0\0"
                                                                   "hello\0\0\0" HEAD(ZERO, ZERO, ONE, ZERO, ZERO, ZERO,
                                                                                      "0000000B") "TRAILER!!!\0\0\0";
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    ok(path_read_file(here, "initrd", &b, NULL) == 0 && b.len == sizeof(want) && memcmp(b.data, want, b.len) == 0,
       "byte for byte (%zu, %zu)", b.len, sizeof(want));
}

/* ---- kernels ---- */

#define KERNEL_SIZE (2u << 20)

/* An ELF file of two MiB that says it is Linux 6.1.2-test; the caller frees. */
static uint8_t *make_vmlinux(void)
{
    uint8_t *p = calloc(1, KERNEL_SIZE);
    if (!p)
        abort();
    Elf64_Ehdr h = {.e_machine = EM_X86_64,
                    .e_type = ET_EXEC,
                    .e_phoff = sizeof(h),
                    .e_phnum = 1,
                    .e_phentsize = sizeof(Elf64_Phdr)};
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    Elf64_Phdr ph = {.p_type = PT_LOAD, .p_offset = 4096, .p_filesz = KERNEL_SIZE - 4096};
    memcpy(p, &h, sizeof(h));
    memcpy(p + sizeof(h), &ph, sizeof(ph));
    static const char text[] = "Linux version %s (%s)\0Linux version 6.1.2-test (me) #1";
    memcpy(p + 1000000, text, sizeof(text));
    return p;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* Writes a bzImage whose header claims that offset and length (0: the true ones). */
static void make_bzimage(const char *name, const void *payload, size_t n, uint32_t offset, uint32_t length)
{
    CLEAN_FREE uint8_t *p = calloc(1, 1024 + 64 + n);
    if (!p)
        abort();
    p[0x1f1] = 1;
    memcpy(p + 0x202, "HdrS", 4);
    p[0x206] = 0x0f;
    p[0x207] = 0x02;
    put_u32(p + 0x248, offset ? offset : 64);
    put_u32(p + 0x24c, length ? length : (uint32_t)n);
    memcpy(p + 1024 + 64, payload, n);
    put_file(name, p, 1024 + 64 + n);
}

static int extract(const char *from, const char *to, struct mvm_error *err)
{
    CLEAN_FD int in = open(from, O_RDONLY | O_CLOEXEC);
    CLEAN_FD int out = fresh(to);
    return kernel_extract(in, out, err);
}

static void test_kernel(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_FREE uint8_t *elf = make_vmlinux();
    put_file("vmlinux", elf, KERNEL_SIZE);
    size_t room = ZSTD_compressBound(KERNEL_SIZE) + 4;
    CLEAN_FREE uint8_t *packed = calloc(1, room);
    size_t n = packed ? ZSTD_compress(packed, room - 4, elf, KERNEL_SIZE, 3) : 0;
    /* the kernel's build appends the size */
    make_bzimage("bzImage", packed, n + 4, 0, 0);
    ok(extract("bzImage", "k", &err) == 0 && same_files("k", "vmlinux"), "a zstd payload is taken out");
    make_bzimage("plain", elf, KERNEL_SIZE, 0, 0);
    ok(extract("plain", "k", &err) == 0 && same_files("k", "vmlinux"), "so is one that is not compressed");
    ok(extract("vmlinux", "k", &err) == 0 && same_files("k", "vmlinux"), "an ELF is copied");
    make_bzimage("bad", packed, n + 4, 0x7fffffff, 0);
    ok(extract("bad", "k", &err) == -EINVAL && says(&err, "outside"), "an offset beyond the file is refused");
    make_bzimage("bad", packed, n + 4, 0xffffffff, 0xffffffff);
    ok(extract("bad", "k", &err) == -EINVAL && says(&err, "outside"), "offset and length do not wrap round");
    make_bzimage("bad", packed, n + 4, 0, (uint32_t)n + 5);
    ok(extract("bad", "k", &err) == -EINVAL, "one byte too many is refused");
    make_bzimage("bad", packed, n + 4, 0, (uint32_t)n / 2);
    ok(extract("bad", "k", &err) < 0, "half a payload is refused");
    make_bzimage("bad", "BZh91AY&SY", 10, 0, 0);
    ok(extract("bad", "k", &err) == -EINVAL && says(&err, "no ELF"), "an unknown compression is refused");
    put_file("bad", "short", 5);
    ok(extract("bad", "k", &err) == -EINVAL, "a short file is refused");
    put_file("cut", elf, KERNEL_SIZE - 1);
    CLEAN_FD int fd = open("vmlinux", O_RDONLY | O_CLOEXEC), cut = open("cut", O_RDONLY | O_CLOEXEC),
                 bz = open("bzImage", O_RDONLY | O_CLOEXEC);
    ok(kernel_check(fd, &err) == 1, "the ELF is a kernel");
    ok(kernel_check(cut, &err) == 0 && says(&err, "ends early"), "cut off it is none");
    ok(kernel_check(bz, &err) == 0 && says(&err, "not a kernel"), "a small bzImage is none");
    CLEAN_FREE uint8_t *arm = calloc(1, KERNEL_SIZE);
    if (!arm)
        abort();
    memcpy(arm + 56, "ARM\x64", 4);
    put_file("Image", arm, KERNEL_SIZE);
    put_file("tiny", arm, 40);
    CLEAN_FD int image = open("Image", O_RDONLY | O_CLOEXEC), short_fd = open("tiny", O_RDONLY | O_CLOEXEC);
    ok(extract("Image", "k", &err) == 0 && same_files("k", "Image"), "an aarch64 Image is taken as it is");
    ok(kernel_check(image, &err) == 1 && !strcmp(kernel_arch(image), "aarch64") && !strcmp(kernel_arch(fd), "x86_64"),
       "what processors a kernel is for is seen in it");
    ok(!kernel_arch(bz) && !kernel_arch(short_fd), "but not in what is none");
    char release[32], tiny[4];
    ok(kernel_release(fd, release, sizeof(release), &err) == 0 && !strcmp(release, "6.1.2-test"),
       "its release is found behind the banner");
    ok(kernel_release(fd, tiny, sizeof(tiny), &err) < 0, "not where there is no room for it");
}

/* ---- modules ---- */

/* An ELF object with two sections: .shstrtab and .modinfo holding that text. */
static size_t make_module(uint8_t *p, const char *info, size_t info_len)
{
    static const char names[] = "\0.shstrtab\0.modinfo";
    Elf64_Ehdr h = {.e_machine = EM_X86_64,
                    .e_type = ET_REL,
                    .e_shoff = 64,
                    .e_shnum = 3,
                    .e_shentsize = sizeof(Elf64_Shdr),
                    .e_shstrndx = 1};
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    Elf64_Shdr s[3] = {
        {0},
        {.sh_name = 1, .sh_type = SHT_STRTAB, .sh_offset = 256, .sh_size = sizeof(names)},
        {.sh_name = 11, .sh_type = SHT_PROGBITS, .sh_offset = 320, .sh_size = info_len},
    };
    memset(p, 0, 1024);
    memcpy(p, &h, sizeof(h));
    memcpy(p + 64, s, sizeof(s));
    memcpy(p + 256, names, sizeof(names));
    memcpy(p + 320, info, info_len);
    return 1024;
}

static void put_module(const char *name, const char *info, size_t n)
{
    uint8_t p[1024];
    put_file(name, p, make_module(p, info, n));
}
#define INFO(text) (text), sizeof(text)

static int pick(const char *const *names, char *order, size_t size, struct mvm_error *err)
{
    CLEAN_FSTREE struct fstree t = {0};
    if (fstree_init(&t) < 0)
        abort();
    int r = kernel_add_modules(&t, "mods", names, err);
    const struct fsnode *dir = fstree_find(&t, "modules");
    *order = '\0';
    for (size_t i = 0, at = 0; dir && i < dir->n_children && at < size; i++)
        at += (size_t)snprintf(order + at, size - at, "%s ", dir->children[i]->name);
    return r;
}

static void test_modules(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    char order[400];
    must(mkdir("mods", 0755));
    must(mkdir("mods/kernel", 0755));
    must(mkdir("mods/kernel/net", 0755));
    put_module("mods/kernel/net/top-most.ko", INFO("license=GPL\0depends=low,middle\0name=top_most"));
    put_module("mods/kernel/net/middle.ko", INFO("depends=low"));
    put_module("mods/kernel/low.ko", INFO("depends="));
    put_module("mods/kernel/lower.ko", INFO("depends="));
    put_file("mods/modules.builtin", "kernel/fs/ext-4.ko\n", 19);
    ok(pick((const char *const[]){"top_most", "low", "ext_4", NULL}, order, sizeof(order), &err) == 0 &&
           !strcmp(order, "00-low.ko 01-middle.ko 02-top-most.ko "),
       "dependencies come first, each once: %s", order);
    ok(pick((const char *const[]){"absent", NULL}, order, sizeof(order), &err) == -ENOENT && says(&err, "absent"),
       "a module that is absent and not built in is an error");
    put_module("mods/kernel/a.ko", INFO("depends=b"));
    put_module("mods/kernel/b.ko", INFO("depends=a"));
    ok(pick((const char *const[]){"a", NULL}, order, sizeof(order), &err) == -ELOOP, "a ring ends");
    uint8_t p[1024];
    size_t n = make_module(p, "depends=low", 11); /* no NUL at the end */
    put_file("mods/kernel/hostile.ko", p, n);
    ok(pick((const char *const[]){"hostile", NULL}, order, sizeof(order), &err) == -EINVAL,
       "text without an end is refused");
    static const struct {
        size_t at;
        uint64_t value;
        const char *what;
    } damage[] = {
        {40, 1u << 20, "sections beyond the file"},     {40, UINT64_MAX - 7, "sections that wrap round"},
        {64 + 128 + 24, UINT64_MAX, ".modinfo beyond"}, {64 + 128 + 32, UINT64_MAX, ".modinfo too long"},
        {64 + 64 + 24, 1 << 20, "names beyond"},        {64 + 64 + 32, UINT64_MAX, "names too long"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
        n = make_module(p, INFO("depends="));
        memcpy(p + damage[i].at, &damage[i].value, 8);
        put_file("mods/kernel/hostile.ko", p, n);
        ok(pick((const char *const[]){"hostile", NULL}, order, sizeof(order), &err) == -EINVAL, "%s: refused",
           damage[i].what);
    }
    char packed[2048];
    n = make_module(p, INFO("depends=lower"));
    n = ZSTD_compress(packed, sizeof(packed), p, n, 3);
    put_file("mods/kernel/packed.ko.zst", packed, n);
    ok(pick((const char *const[]){"packed", NULL}, order, sizeof(order), &err) == 0 &&
           !strcmp(order, "00-lower.ko 01-packed.ko "),
       "a compressed module: %s", order);
    put_file("mods/kernel/packed.ko.zst", packed, n / 2);
    ok(pick((const char *const[]){"packed", NULL}, order, sizeof(order), &err) < 0, "half of one is refused");
}

/* The size in the initrd of a module with that many bytes behind it, then a signature's information and mark. */
static uint64_t size_signed(size_t behind, uint32_t said)
{
    static const char mark[] = "~Module signature appended~\n";
    uint8_t p[2048] = {0};
    const uint8_t len[4] = {(uint8_t)(said >> 24), (uint8_t)(said >> 16), (uint8_t)(said >> 8), (uint8_t)said};
    size_t n = make_module(p, INFO("depends=")) + behind;
    memset(p + 1024, 'S', 1024);
    memcpy(p + n + 8, len, 4);
    memcpy(p + n + 12, mark, sizeof(mark) - 1);
    put_file("mods/kernel/signed.ko", p, n + 12 + sizeof(mark) - 1);
    CLEAN_FSTREE struct fstree t = {0};
    if (fstree_init(&t) < 0 || kernel_add_modules(&t, "mods", (const char *const[]){"signed", NULL}, NULL) < 0)
        abort();
    return fstree_find(&t, "modules/00-signed.ko")->size;
}

static void test_signatures(void)
{
    ok(size_signed(256, 256) == 1024, "a module's signature is dropped");
    ok(size_signed(256, 4096) == 1024 + 256 + 40, "one that would be longer than the module is left alone");
}

/* ---- manifests and images ---- */

#define DIGEST      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ENTRY(size) "{\"size\":" size ",\"sha256\":\"" DIGEST "\"}"
#define BOTH        "\"vmlinux\":" ENTRY("1") ",\"rootfs.ext4\":" ENTRY("2")

static void test_manifest(void)
{
    static const struct {
        const char *what, *text, *error;
    } damage[] = {
        {"nothing", "", "manifest.json"},
        {"another schema", "{\"schema_version\":2,\"artifacts\":{" BOTH "}}", "schema version 2"},
        {"no artifacts", "{\"schema_version\":1}", "artifacts"},
        {"a missing kernel", "{\"schema_version\":1,\"artifacts\":{\"rootfs.ext4\":" ENTRY("2") "}}", "missing"},
        {"an unknown name", "{\"schema_version\":1,\"artifacts\":{" BOTH ",\"../x\":" ENTRY("2") "}}", "unknown"},
        {"a negative size", "{\"schema_version\":1,\"artifacts\":{" BOTH ",\"initrd\":" ENTRY("-1") "}}", "initrd"},
        {"a size in text", "{\"schema_version\":1,\"artifacts\":{" BOTH ",\"initrd\":" ENTRY("\"1\"") "}}", "size"},
        {"a short digest", "{\"schema_version\":1,\"artifacts\":{" BOTH ",\"initrd\":{\"size\":1,\"sha256\":\"00\"}}}",
         "initrd"},
        {"an artifact that is null", "{\"schema_version\":1,\"artifacts\":{" BOTH ",\"initrd\":null}}", "initrd"},
    };
    struct manifest m = {0}, back;
    struct mvm_error err = MVM_ERROR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
        put_file("manifest.json", damage[i].text, strlen(damage[i].text));
        ok(manifest_load(&m, here, &err) < 0 && says(&err, damage[i].error), "%s: refused", damage[i].what);
    }
    for (int a = 0; a <= ARTIFACT_ROOTFS; a++) {
        m.artifacts[a] = (struct artifact_info){.present = true, .size = (uint64_t)a + 1};
        memcpy(m.artifacts[a].sha256, DIGEST, sizeof(DIGEST));
    }
    unlink("manifest.json");
    char one[SHA256_HEX_SIZE], two[SHA256_HEX_SIZE];
    ok(manifest_save(&m, here, &err) == 0 && manifest_load(&back, here, &err) == 0, "what is saved is loaded");
    manifest_digest(&m, one);
    manifest_digest(&back, two);
    ok(!strcmp(one, two), "with the same digest");
    ok(artifact_parse("rootfs.ext4") == ARTIFACT_ROOTFS && artifact_parse("rootfs") == -1, "names are exact");
}

static bool invalid(int dir, const char *what)
{
    struct mvm_error err = MVM_ERROR_INIT;
    return image_validate(dir, &err) < 0 && err.phase == MVM_PHASE_ARTIFACT_EXTRACTION && says(&err, what);
}

static void test_image(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_FD int dir = path_open_dir(here, "image", &err);
    ok(invalid(dir, "no vmlinux"), "an empty folder is no image");
    CLEAN_FREE uint8_t *elf = make_vmlinux();
    put_file("image/vmlinux", elf, KERNEL_SIZE);
    ok(invalid(dir, "no rootfs.ext4"), "nor is a kernel alone");
    put_file("image/rootfs.ext4", elf, KERNEL_SIZE);
    ok(invalid(dir, "no ext4"), "the root must be ext4");
    {
        CLEAN_FD int fd = fresh("image/rootfs.ext4");
        if (ext4_write(fd, NULL, &fs_opts, &err) < 0)
            abort();
        ok(image_validate(dir, &err) == 0, "both make an image");
        struct stat st;
        if (fstat(fd, &st) < 0 || ftruncate(fd, st.st_size - 1) < 0)
            abort();
        ok(invalid(dir, "bytes where"), "a root that was cut off is refused");
        if (ftruncate(fd, st.st_size) < 0)
            abort();
    }
    put_file("image/cmdline.txt", "quiet\nmore\n", 11);
    ok(invalid(dir, "cmdline.txt"), "a command line of two lines is refused");
    static char line[2100];
    memset(line, 'x', sizeof(line));
    line[2048] = '\n';
    put_file("image/cmdline.txt", line, 2049);
    ok(image_validate(dir, &err) == 0, "one of 2048 bytes is not");
    put_file("image/cmdline.txt", line + 1, 0);
    static const char *const bad[] = {
        "{\"system\":\"x86_64-linux\"}",
        "{\"name\":\"../x\",\"system\":\"x86_64-linux\"}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"memory_mib\":\"much\"}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"vcpus\":-1}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"kernel_kind\":\"\"}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"devices\":\"pci\"}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"kernel_offers\":\"pci\"}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"kernel_offers\":[]}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"kernel_offers\":[7]}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"network\":\"none\"}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"network\":{\"policy\":\"none @full\"}}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"network\":{\"allow\":\"a.b\"}}",
        "{\"name\":\"x\",\"system\":\"x86_64-linux\",\"network\":{\"allow\":[\"a.b\",\"@full\"]}}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        put_file("image/image.json", bad[i], strlen(bad[i]));
        ok(invalid(dir, "image.json"), "image.json is checked: %s", bad[i]);
    }
    static const char good[] = "{\"name\":\"web\",\"system\":\"x86_64-linux\",\"agent_protocol\":1,\"vcpus\":2}";
    put_file("image/image.json", good, sizeof(good) - 1);
    struct image_metadata m;
    ok(image_validate(dir, &err) == 0 && image_metadata_load(&m, dir, &err) == 0 && m.vcpus == 2 && m.memory_mib == 0 &&
           !strcmp(m.name, "web") && !m.kernel_kind[0] &&
           m.kernel_offers == (KERNEL_OFFER(KERNEL_MMIO_ACPI) | KERNEL_OFFER(KERNEL_CONSOLE)),
       "and read; where it does not say what its kernel offers, that is what a distribution's has");
    static const char slim[] =
        "{\"name\":\"web\",\"system\":\"x86_64-linux\",\"kernel_kind\":\"slim\",\"devices\":\"cmdline\"}";
    put_file("image/image.json", slim, sizeof(slim) - 1);
    ok(image_metadata_load(&m, dir, &err) == 0 && !strcmp(m.kernel_kind, "slim") &&
           m.kernel_offers == (KERNEL_OFFER(KERNEL_MMIO_CMDLINE) | KERNEL_OFFER(KERNEL_CONSOLE)),
       "an image from before the list of offers says how its kernel finds devices");
    static const char offers[] = "{\"name\":\"web\",\"system\":\"x86_64-linux\",\"devices\":\"cmdline\","
                                 "\"kernel_offers\":[\"pci\",\"telepathy\",\"vsock\"]}";
    put_file("image/image.json", offers, sizeof(offers) - 1);
    ok(image_metadata_load(&m, dir, &err) == 0 &&
           m.kernel_offers == (KERNEL_OFFER(KERNEL_PCI) | KERNEL_OFFER(KERNEL_VSOCK)),
       "the list of what the kernel offers counts alone, an unknown word in it is nothing");
    static const char reach[] = "{\"name\":\"web\",\"system\":\"x86_64-linux\",\"network\":{\"policy\":\"public\","
                                "\"allow\":[\"10.0.0.1:80\",\"*.example.org\"]}}";
    put_file("image/image.json", reach, sizeof(reach) - 1);
    ok(image_metadata_load(&m, dir, &err) == 0 && !strcmp(m.network, "@public 10.0.0.1:80 *.example.org"),
       "what it wishes to reach is a policy with rules");
    char wish[NETWORK_WISH_MAX];
    CLEAN_JSON json_object *many = json_tokener_parse("{\"network\":{\"allow\":[]}}");
    json_object *list = NULL;
    json_object_object_get_ex(json_object_object_get(many, "network"), "allow", &list);
    ok(network_wish_load(many, wish, &err) == 0 && !wish[0], "a list of no rules is no wish");
    for (size_t i = 0; i <= NETWORK_WISH_RULES; i++)
        json_object_array_add(list, json_object_new_string("a.b"));
    ok(network_wish_load(many, wish, &err) == -EINVAL, "too many rules are refused");
    static const char rules[] = "{\"name\":\"web\",\"system\":\"x86_64-linux\",\"network\":{\"allow\":[\"a.b\"]}}";
    put_file("image/image.json", rules, sizeof(rules) - 1);
    ok(image_metadata_load(&m, dir, &err) == 0 && !strcmp(m.network, "@listed a.b"), "rules alone allow nothing else");
    put_file("image/image.json", slim, sizeof(slim) - 1);
    ok(image_check_memory(dir, 64, &err) == 0, "R13: an image with the slim kernel boots with 64 MiB");
    static const char least[] = "{\"name\":\"web\",\"system\":\"x86_64-linux\",\"min_memory_mib\":300}";
    put_file("image/image.json", least, sizeof(least) - 1);
    ok(image_check_memory(dir, 300, &err) == 0 && image_check_memory(dir, 299, &err) == -EINVAL &&
           strstr(err.msg, "299 MiB") && strstr(err.msg, "needs 300 MiB") && strstr(err.hint, "--memory 300M"),
       "R13: or an image with what it says itself");
    put_file("image/image.json", good, sizeof(good) - 1);
    ok(image_check_memory(dir, 96, &err) == 0 && image_check_memory(dir, 95, &err) == -EINVAL,
       "R13: one with another kernel is refused less than 96 MiB (%s)", err.msg);
    unlink("image/image.json");
    ok(image_check_memory(dir, 64, &err) == 0, "R13: what has no metadata may boot with anything");
    unlink("image/initrd");
    must(symlink("vmlinux", "image/initrd"));
    ok(invalid(dir, "initrd"), "a symlink is no artifact");
}

static bool is_loaded(void *data, const char *name)
{
    return strcmp(data, name) == 0;
}

/* What is a driver alone, or what it needs alone, is no offer. */
static void test_kernel_offers(void)
{
    static char loaded[] = "vmw_vsock_virtio_transport";
    static const struct {
        const char *config;
        unsigned offers;
    } cases[] = {
        {"", 0},
        {"CONFIG_VIRTIO_MMIO=y\n", 0},
        {"CONFIG_ACPI=y\nCONFIG_PCI=y\nCONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y", 0},
        {"CONFIG_VIRTIO_MMIO=y\nCONFIG_ACPI=y\nCONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y\n",
         KERNEL_OFFER(KERNEL_MMIO_CMDLINE) | KERNEL_OFFER(KERNEL_MMIO_ACPI)},
        {"CONFIG_PCI=y\n#CONFIG_ACPI=y\nCONFIG_VIRTIO_PCI=y", KERNEL_OFFER(KERNEL_PCI)},
        {"CONFIG_VIRTIO_CONSOLE=m\nCONFIG_VIRTIO_VSOCKETS=m\n", KERNEL_OFFER(KERNEL_VSOCK)},
        {"CONFIG_VIRTIO_CONSOLE=yes\nCONFIG_VIRTIO_CONSOLE_X=y\n", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ok(kernel_offers_of_config(cases[i].config, is_loaded, loaded) == cases[i].offers,
           "a kernel of configuration %zu offers %#x", i, cases[i].offers);
    for (int o = 0; o < KERNEL_OFFERS; o++)
        ok(kernel_offer_parse(kernel_offer_name(o)) == o, "%s is the name of an offer", kernel_offer_name(o));
    ok(kernel_offer_parse("mmio") == -1 && kernel_offer_parse("") == -1, "no other word is");
}

/* ---- mvm-mkrootfs ---- */

static char tool[PATH_MAX];

static int mkrootfs(const char *spec, const char *output, struct buf *errors)
{
    put_file("spec", spec, strlen(spec));
    unlink(output);
    buf_clear(errors);
    const char *argv[] = {tool, "--spec", "spec", "--output", output, "--store", "store", NULL};
    return run(argv, errors);
}

#define HASH_A "0123456789abcdfghijklmnpqrsvwxyz-a"
#define HASH_B "1123456789abcdfghijklmnpqrsvwxyz-b"

static void test_mkrootfs(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_BUF struct buf e = BUF_INIT(65536);
    must(mkdir("store", 0755));
    must(mkdir("store/" HASH_A, 0755));
    must(mkdir("store/" HASH_A "/bin", 0755));
    put_file("store/" HASH_A "/bin/prog", "#!", 2);
    must(chmod("store/" HASH_A "/bin/prog", 0555));
    put_file("store/" HASH_B, "file", 4);
    static const char graph[] = "/nix/store/" HASH_A "\n\n2\n/nix/store/" HASH_B "\n/nix/store/" HASH_A
                                "\n/nix/store/" HASH_B "\n/nix/store/" HASH_A "\n0\n"
                                "/nix/store/" HASH_A "\n\n0\n";
    put_file("graph", graph, sizeof(graph) - 1);
    static const char spec[] = "# a comment\n\nlabel root\nspare 1000000\nuuid-from web\ntime 5\n"
                               "dir 1777 /tmp\ntext 0644 /etc/mvm/guest.conf hostname web%0Aenv A=b c%25%00\n"
                               "text 600 /etc/empty \nlink /init /bin/prog\nstore graph\ntree /opt%20x src\n"
                               "bin /bin /nix/store/" HASH_A "\n"
                               "file 4755 /bin/su store/" HASH_B;
    ok(mkrootfs(spec, "root.ext4", &e) == 0, "an image is made (%s)", buf_cstr(&e));
    check_clean("root.ext4");
    ok(ext4_has("root.ext4", "/nix/store/" HASH_A "/bin/prog", &err) == 1 &&
           ext4_has("root.ext4", "/nix/store/" HASH_B, &err) == 1 && ext4_has("root.ext4", "/init", &err) == 1 &&
           ext4_has("root.ext4", "/opt x/sub/tool", &err) == 1 && ext4_has("root.ext4", "/bin/su", &err) == 1,
       "the closure is in it, and programs are reached through symlinks");
    put_file("digests", "<@sha256:/a@ @nar:/b@>", 22);
    CLEAN_BUF struct buf subst = BUF_INIT(4096);
    ok(mkrootfs("text 644 /a abc\ntext 644 /b/c x\nsubst 644 /d digests", "subst.ext4", &e) == 0 &&
           ext4_read("subst.ext4", "/d", &subst, &err) == 0 &&
           strncmp(buf_cstr(&subst), "<ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad sha256-", 73) ==
               0,
       "a text has the digests of the image's files: %s", buf_cstr(&subst));
    put_file("digests", "@sha256:/b@", 11);
    ok(mkrootfs("text 644 /b/c x\nsubst 644 /d digests", "subst.ext4", &e) == 1 &&
           strstr(buf_cstr(&e), "names nothing"),
       "a folder has none");
    must(mkdir("modules", 0755));
    put_file("modules/00-virtio_mmio.ko", "", 0);
    static const char config[] = "CONFIG_ACPI=y\nCONFIG_VIRTIO_MMIO=m\nCONFIG_VIRTIO_VSOCKETS=m\nCONFIG_VIRTIO_PCI=y\n"
                                 "# CONFIG_PCI is not set\nCONFIG_VIRTIO_CONSOLE=y\n";
    put_file("config", config, sizeof(config) - 1);
    CLEAN_BUF struct buf offers = BUF_INIT(4096);
    ok(mkrootfs("offers 644 /offers modules config", "offers.ext4", &e) == 0 &&
           ext4_read("offers.ext4", "/offers", &offers, &err) == 0 &&
           strcmp(buf_cstr(&offers), "mmio-acpi\nconsole\n") == 0,
       "a kernel offers what is compiled in, or loaded by the initrd: %s", buf_cstr(&offers));
    CLEAN_BUF struct buf text = BUF_INIT(4096);
    static const char want[] = "hostname web\nenv A=b c%\0";
    ok(ext4_read("root.ext4", "/etc/mvm/guest.conf", &text, &err) == 0 && text.len == sizeof(want) - 1 &&
           memcmp(text.data, want, text.len) == 0,
       "escapes are decoded");
    ok(mkrootfs(spec, "again.ext4", &e) == 0 && same_files("root.ext4", "again.ext4"), "twice is the same");
    static const struct {
        const char *spec, *error;
    } bad[] = {
        {"dir 755 /a\nfrobnicate x\n", "spec: line 2: unknown directive 'frobnicate'"},
        {"dir 75 /a", "line 1: '75'"},
        {"dir 0799 /a", "line 1: '0799'"},
        {"dir 755", "line 1: dir: 2 fields"},
        {"file 755 /a", "3 fields"},
        {"text 644 /a b%2", "line 1: text: a %"},
        {"text 644 /a%00b c", "NUL"},
        {"text 644 /../a c", "unsafe path"},
        {"file 644 /a absent", "absent"},
        {"spare -1", "no number"},
        {"spare 99999999999999999999", "no number"},
        {"label 12345678901234567", "a label has"},
        {"link /a b\ndir 755 /a/c", "line 2: in image: /a is no folder"},
        {"store absent", "absent"},
        {"store badgraph", "badgraph: references graph, line 3"},
        {"store open", "not listed"},
        {"bin /bin /nix/store/" HASH_B, "the package /nix/store/" HASH_B " is a file"},
        {"file 644 /a src", "/a has the mode of a file, but src is a folder"},
        {"text 644 /a/b c\ntext 644 /a d", "line 2: in image: /a is a folder"},
        {"text 644 /a/b c\ncopy /a store/" HASH_B, "line 2: in image: /a is a folder"},
        {"copy /a absent", "absent"},
        {"absent /a/b x\ntext 644 /a/b c\nabsent /a/b it is ours", "line 3: in image: /a/b is not for a copied folder "
                                                                   "to bring: it is ours"},
    };
    put_file("badgraph", "/nix/store/" HASH_A "\n\nmany\n", strlen("/nix/store/" HASH_A "\n\nmany\n"));
    put_file("open", "/nix/store/" HASH_A "\n\n1\n/nix/store/" HASH_B "\n",
             strlen("/nix/store/" HASH_A "\n\n1\n/nix/store/" HASH_B "\n"));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(mkrootfs(bad[i].spec, "no.ext4", &e) == 1 && strstr(buf_cstr(&e), bad[i].error) &&
               strchr(buf_cstr(&e), '\n') == (char *)e.data + e.len - 1 && access("no.ext4", F_OK) < 0,
           "refused: %s", bad[i].error);
}

/* What Nix says of a file that names two copied things: one of them refers to a third and to nothing else does anybody.
 */
static void test_references(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_BUF struct buf e = BUF_INIT(65536);
    static const char top[] = "/nix/store/2123456789abcdfghijklmnpqrsvwxyz-top";
    static const char third[] = "/nix/store/3123456789abcdfghijklmnpqrsvwxyz-third";
    CLEAN_BUF struct buf graph = BUF_INIT(4096);
    must(buf_printf(&graph,
                    "%s\n\n2\n/nix/store/" HASH_A "\n/nix/store/" HASH_B "\n/nix/store/" HASH_A
                    "\n\n1\n%s\n/nix/store/" HASH_B "\n\n0\n%s\n\n0\n",
                    top, third, third));
    put_file("copies", graph.data, graph.len);
    put_file("store/3123456789abcdfghijklmnpqrsvwxyz-third", "3", 1);
    put_file("store/2123456789abcdfghijklmnpqrsvwxyz-top", "2", 1);
    ok(mkrootfs("store copies", "all.ext4", &e) == 0 && ext4_has("all.ext4", third, &err) == 1 &&
           ext4_has("all.ext4", "/nix/store/" HASH_B, &err) == 1 && ext4_has("all.ext4", top, &err) == 0,
       "a closure is in the image without the file that it was made of (%s)", buf_cstr(&e));
    ok(mkrootfs("references copies\ncopy /a /nix/store/" HASH_A "\ncopy /f /nix/store/" HASH_B, "few.ext4", &e) == 0 &&
           ext4_has("few.ext4", third, &err) == 1 && ext4_has("few.ext4", "/nix/store/" HASH_A, &err) == 0 &&
           ext4_has("few.ext4", "/a/bin/prog", &err) == 1 && ext4_has("few.ext4", "/f", &err) == 1,
       "of what is copied, only what it refers to is in the store (%s)", buf_cstr(&e));
}

/* The tool lies where the build put it, seen from this program. */
static bool find_tool(void)
{
    char self[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return false;
    self[n] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(self, '/');
        if (!slash)
            return false;
        *slash = '\0';
        snprintf(tool, sizeof(tool), "%s/src/image/mvm-mkrootfs", self);
        if (access(tool, X_OK) == 0)
            return true;
    }
    return false;
}

/* What trees, specs and file systems are made by. */
static void test_parts(void)
{
    CLEAN_FSNODE struct fsnode *dir = fsnode_new("etc/x", 3, FSNODE_DIR, 0100755);
    struct fsnode *children[] = {fsnode_new("a", 1, FSNODE_FILE, 0644), fsnode_new("c", 1, FSNODE_FILE, 0644)};
    bool found = false, absent = true;
    if (!dir || !children[0] || !children[1])
        exit(1);
    dir->children = malloc(sizeof(children));
    memcpy(dir->children, children, sizeof(children));
    dir->n_children = 2;
    ok(strcmp(dir->name, "etc") == 0 && dir->mode == 0755,
       "a node's name ends where it is told, its mode has permissions");
    ok(fsnode_child_index(dir, "c", 1, &found) == 1 && found && fsnode_child_index(dir, "b", 1, &absent) == 1 &&
           !absent,
       "a folder's children are found by name, and where a missing one would go");

    struct spec s = {.store = "/elsewhere", .names = {{"src", "/here"}}, .n_names = 1};
    CLEAN_FREE char *named = spec_locate(&s, "@src@/etc");
    CLEAN_FREE char *stored = spec_locate(&s, "/nix/store/0-x/bin");
    CLEAN_FREE char *plain = spec_locate(&s, "/etc");
    ok(named && stored && plain && strcmp(named, "/here/etc") == 0 && strcmp(stored, "/elsewhere/0-x/bin") == 0 &&
           strcmp(plain, "/etc") == 0,
       "a spec's source lies below a name's value, in the store that was given, or where it says");

    struct mvm_error err = MVM_ERROR_INIT;
    const struct ext4_writer w = {.err = &err};
    ok(ext4_fail(&w, EXT2_ET_BLOCK_ALLOC_FAIL, "x") == -ENOSPC && ext4_fail(&w, EROFS, "x") == -EROFS,
       "a library's code for a full file system, and a system's code, become an errno");
}

int main(void)
{
    const char *dir = tap_folder();
    if (chdir(dir) < 0 || (here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 1;
    umask(022);
    test_parts();
    test_tree();
    test_tree_from_folder();
    test_ext4();
    test_ext4_empty_files();
    test_ext4_sizes();
    test_hard_links();
    test_cpio();
    test_kernel();
    test_kernel_offers();
    test_modules();
    test_signatures();
    test_manifest();
    test_image();
    if (find_tool()) {
        test_mkrootfs();
        test_references();
    } else {
        ok(false, "mvm-mkrootfs is built");
    }
    if (chdir("/") < 0 || path_remove_tree(AT_FDCWD, dir) < 0)
        printf("# %s is left\n", dir);
    return tap_end();
}
