/* What an ext4 file system will hold, before anything is written (image/ext4layout.h), and the nodes that it is made
 * of. */
#include "tap.h"

#include "image/ext4layout.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fstree tree;

static const struct ext4_entry *find(const struct ext4_layout *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->entries[i].node->name && strcmp(l->entries[i].node->name, name) == 0)
            return &l->entries[i];
    return NULL;
}

static void test_empty(void)
{
    struct ext4_layout l;
    ok(ext4_layout_init(&l, NULL, NULL) == 0 && l.n == 1 && l.entries[0].ino == EXT4_ROOT && l.entries[0].links == 2 &&
           l.entries[0].size == EXT4_BLOCK && l.blocks == 1 && l.n_inodes == 0,
       "without a tree there is a root folder of one block, which takes no inode of its own");
    ext4_layout_done(&l);
    ok(!l.entries && l.n == 0, "a layout is done twice without harm");
    ext4_layout_done(&l);
}

static void test_order(void)
{
    struct ext4_layout l;
    struct mvm_error e = MVM_ERROR_INIT;
    char target[61];
    memset(target, 't', 60);
    target[60] = '\0';
    if (fstree_init(&tree) < 0 || fstree_add_memory(&tree, "a/x", 0644, "12345", 5, &e) < 0 ||
        fstree_add_memory(&tree, "b", 0644, "", 0, &e) < 0 || fstree_add_dir(&tree, "a/dir", 0755, &e) < 0 ||
        fstree_add_symlink(&tree, "long", target, &e) < 0 || fstree_add_symlink(&tree, "short", target + 1, &e) < 0 ||
        fstree_add_char(&tree, "null", 0666, 1, 3, &e) < 0)
        abort();
    ok(ext4_layout_init(&l, &tree, &e) == 0 && l.n == 8 && l.n_inodes == 7, "each node but the root takes an inode");
    bool breadth_first = true;
    for (size_t i = 1; i < l.n; i++)
        breadth_first &= l.entries[i].parent >= l.entries[i - 1].parent && l.entries[i].ino == EXT4_FIRST_INODE + i - 1;
    ok(breadth_first, "names are in breadth-first order, and inodes are numbered in it");
    ok(l.entries[0].links == 3 && find(&l, "a")->links == 3 && find(&l, "dir")->links == 2,
       "a folder has a link from itself, its parent and each folder in it");
    ok(find(&l, "x")->size == 5 && find(&l, "x")->blocks == 1 && find(&l, "b")->blocks == 0,
       "five bytes take a block, none take none");
    ok(find(&l, "short")->blocks == 0 && find(&l, "short")->size == 59 && find(&l, "long")->blocks == 1,
       "a symlink of 59 characters lies in its inode, one of 60 takes a block");
    ok(find(&l, "null")->blocks == 0 && find(&l, "null")->size == 0, "a device takes no block");
    ok(l.blocks == 3 + 1 + 1, "blocks are those of three folders, a file and a symlink (%llu)",
       (unsigned long long)l.blocks);
    ext4_layout_done(&l);
    fstree_done(&tree);
}

/* Two names of one file, and one that looks like it. */
static void test_links(void)
{
    struct ext4_layout l;
    if (fstree_init(&tree) < 0 || fstree_add_memory(&tree, "a", 0644, "12345", 5, NULL) < 0 ||
        fstree_add_memory(&tree, "b/c", 0644, "12345", 5, NULL) < 0 ||
        fstree_add_memory(&tree, "d", 0644, "12345", 5, NULL) < 0)
        abort();
    fstree_find(&tree, "a")->hardlink_id = fstree_find(&tree, "b/c")->hardlink_id = 7;
    fstree_find(&tree, "d")->hardlink_id = 8;
    ok(ext4_layout_init(&l, &tree, NULL) == 0 && find(&l, "c")->ino == find(&l, "a")->ino && find(&l, "c")->again &&
           !find(&l, "a")->again && find(&l, "a")->links == 2 && find(&l, "d")->links == 1,
       "names of one file are one inode, of which the first one makes the content");
    ok(l.n_inodes == 3 && l.blocks == 2 + 2, "and its blocks are counted once");
    ext4_layout_done(&l);
    fstree_done(&tree);
}

#define MANY 70000

static void test_many(void)
{
    struct fsnode root = {.kind = FSNODE_DIR}, *nodes = calloc(MANY, sizeof(*nodes)),
                  **children = calloc(MANY, sizeof(*children));
    char(*names)[8] = calloc(MANY, sizeof(*names));
    struct fstree t = {.root = &root};
    struct ext4_layout l;
    unsigned inodes = 0;
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof(names[i]), "%05zu", i);
        nodes[i] = (struct fsnode){.name = names[i], .kind = FSNODE_FILE, .hardlink_id = 1};
        children[i] = &nodes[i];
    }
    root.children = children;
    root.n_children = MANY;
    ok(ext4_layout_init(&l, &t, NULL) == 0, "a file with 70,000 names");
    for (size_t i = 1; i < l.n; i++)
        inodes += !l.entries[i].again;
    ok(inodes == 2 && l.entries[1].links == 65000 && l.n_inodes == 2,
       "becomes two inodes: one has at most 65,000 links");
    ext4_layout_done(&l);
    for (size_t i = 0; i < MANY; i++)
        nodes[i] = (struct fsnode){.name = names[i], .kind = FSNODE_DIR};
    ok(ext4_layout_init(&l, &t, NULL) == 0 && l.entries[0].links == 1,
       "a folder with more than 65,000 in it is not counted");
    ext4_layout_done(&l);
    nodes[0] = (struct fsnode){.name = names[0], .kind = FSNODE_FILE, .size = (uint64_t)EXT4_BLOCK << 32};
    struct mvm_error e = MVM_ERROR_INIT;
    ok(ext4_layout_init(&l, &t, &e) == -EFBIG && strstr(e.msg, "00000 is too large"),
       "a file of 16 TiB is too large, and named");
    ext4_layout_done(&l);
    nodes[0].size = 16ull << 20;
    root.n_children = 1;
    ok(ext4_layout_init(&l, &t, NULL) == 0 && l.blocks == 4096 + 1, "a file of 16 MiB needs no extent tree");
    ext4_layout_done(&l);
    nodes[0].size = (16ull << 20) + 1;
    ok(ext4_layout_init(&l, &t, NULL) == 0 && l.blocks == 4097 + 2 + 1, "one that is larger may");
    ext4_layout_done(&l);
    free(names);
    free(nodes);
    free(children);
}

/* ---- Folders' blocks ---- */

struct dirent_at {
    uint32_t inode;
    uint16_t rec_len;
    uint8_t name_len, type;
};

static struct dirent_at entry_at(const uint8_t *block, size_t at)
{
    struct dirent_at d;
    memcpy(&d, block + at, sizeof(d));
    return d;
}

static void test_blocks(void)
{
    struct ext4_layout l;
    uint8_t block[EXT4_BLOCK];
    char name[256];
    if (fstree_init(&tree) < 0)
        abort();
    memset(name, 'n', 255);
    name[255] = '\0';
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, 4, "%03u", i);
        name[3] = 'n';
        if (fstree_add_memory(&tree, name, 0644, "", 0, NULL) < 0)
            abort();
    }
    ok(ext4_layout_init(&l, &tree, NULL) == 0 && l.entries[0].size == 3 * EXT4_BLOCK,
       "40 long names take three blocks");
    size_t next = 0, seen = 0, blocks = 0;
    bool whole = true, known = true;
    while (next < 42) {
        ext4_layout_dir_block(&l, &l.entries[0], &next, block);
        size_t at = 0;
        for (; at < EXT4_BLOCK - 12; seen++) {
            struct dirent_at d = entry_at(block, at);
            whole &= d.rec_len >= 8 + d.name_len && d.rec_len % 4 == 0;
            known &=
                seen < 2 ? d.inode == EXT4_ROOT && d.type == 2 : d.inode == EXT4_FIRST_INODE + seen - 2 && d.type == 1;
            if (d.rec_len < 8)
                break;
            at += d.rec_len;
        }
        whole &= at == EXT4_BLOCK - 12;
        blocks++;
    }
    ok(whole && blocks == 3, "the last entry of each block reaches to the checksum");
    ok(known && seen == 42, "the root's parent is the root, then come the names with their inodes and kinds");
    ext4_layout_done(&l);
    fstree_done(&tree);
}

/* ---- Nodes ---- */

static void test_nodes(void)
{
    CLEAN_FSNODE struct fsnode *dir = fsnode_new("dirXX", 3, FSNODE_DIR, 040755);
    static const char *const names[] = {"a", "ab", "b", "\xc3\xa9"};
    bool found;
    ok(strcmp(dir->name, "dir") == 0 && dir->mode == 0755,
       "a node has as much of a name as is said, and permissions alone");
    dir->children = calloc(ARRAY_SIZE(names), sizeof(*dir->children));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        dir->children[dir->n_children++] = fsnode_new(names[i], strlen(names[i]), FSNODE_FILE, 0644);
    bool all = true;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        all &= fsnode_child_index(dir, names[i], strlen(names[i]), &found) == i && found;
    ok(all, "each child is found by its name");
    ok(fsnode_child_index(dir, "abc", 2, &found) == 1 && found, "a name ends where it is said to");
    ok(fsnode_child_index(dir, "aa", 2, &found) == 1 && !found && fsnode_child_index(dir, "", 0, &found) == 0 &&
           !found && fsnode_child_index(dir, "\xff", 1, &found) == 4 && !found,
       "a name that is not there has a place, by its bytes");
}

static void test_reader(void)
{
    char bytes[8], path[300];
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_FSNODE_READER struct fsnode_reader r = FSNODE_READER_INIT;
    uint8_t memory[] = "memory";
    const struct fsnode in_memory = {.kind = FSNODE_FILE, .memory = memory, .size = 6};
    const char *folder = tap_folder();
    ok(fsnode_reader_open(&r, &in_memory, &e) == 0 && fsnode_reader_read(&r, bytes, 3, &e) == 0 &&
           fsnode_reader_read(&r, bytes + 3, 3, &e) == 0 && memcmp(bytes, "memory", 6) == 0 && r.at == 6,
       "content in memory is read piece by piece");
    snprintf(path, sizeof(path), "%s/source", folder);
    FILE *f = fopen(path, "w");
    if (!f || fputs("source", f) < 0 || fclose(f) != 0)
        abort();
    struct fsnode in_file = {.kind = FSNODE_FILE, .source = path, .size = 6};
    ok(fsnode_reader_open(&r, &in_file, &e) == 0 && fsnode_reader_read(&r, bytes, 6, &e) == 0 &&
           memcmp(bytes, "source", 6) == 0,
       "so is that of a file");
    ok(truncate(path, 3) == 0 && lseek(r.fd, 0, SEEK_SET) == 0 && fsnode_reader_read(&r, bytes, 6, &e) == -ESTALE,
       "a file that shrinks while it is read is stale");
    fsnode_reader_close(&r);
    ok(fsnode_reader_open(&r, &in_file, &e) == -ESTALE && strstr(e.msg, "changed while the image was made"),
       "a file of another size than was added is stale");
    fsnode_reader_close(&r);
    ok(unlink(path) == 0 && fsnode_reader_open(&r, &in_file, &e) == -ENOENT, "a file that went is an error");
    ok(mkfifo(path, 0600) == 0 && fsnode_reader_open(&r, &in_file, &e) == -ESTALE,
       "a fifo in its place holds nobody up");
    fsnode_reader_close(&r);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    test_nodes();
    test_reader();
    test_empty();
    test_order();
    test_links();
    test_many();
    test_blocks();
    return tap_end();
}
