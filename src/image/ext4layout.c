#include "image/ext4layout.h"

#include <errno.h>
#include <ext2fs/ext2_fs.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structures are written as they lie in memory");

#define DIR_ROOM     (EXT4_BLOCK - 12) /* the checksum has the form of an empty entry of 12 bytes */
#define MAX_LINKS    65000             /* kernel: fs/ext4/ext4.h, EXT4_LINK_MAX */
#define FAST_SYMLINK 60                /* a shorter target lies within the inode */

/* Hard links seen so far, by id: a table with open addressing, twice as large as it can get full.
 */
struct link_table {
    struct link_slot {
        uint64_t id;
        size_t entry;
    } * slots;
    size_t mask;
};

static void link_table_done(struct link_table *t)
{
    free(t->slots);
}

static int link_table_init(struct link_table *t, const struct ext4_layout *l)
{
    size_t links = 0, size = 16;
    for (size_t i = 0; i < l->n; i++)
        links += l->entries[i].node->hardlink_id != 0;
    while (size < links * 2)
        size *= 2;
    t->slots = calloc(size, sizeof(*t->slots));
    t->mask = size - 1;
    return t->slots ? 0 : -ENOMEM;
}

static struct link_slot *link_table_at(struct link_table *t, uint64_t id)
{
    size_t i = (size_t)((id * 0x9e3779b97f4a7c15u) >> 20) & t->mask;
    while (t->slots[i].id && t->slots[i].id != id)
        i = (i + 1) & t->mask;
    return &t->slots[i];
}

static size_t count_nodes(const struct fsnode *n)
{
    size_t sum = 1;
    for (size_t i = 0; i < n->n_children; i++)
        sum += count_nodes(n->children[i]);
    return sum;
}

/* The list of entries is its own queue. */
static void list_entries(struct ext4_layout *l, const struct fsnode *root)
{
    l->entries[0] = (struct ext4_entry){.node = root};
    l->n = 1;
    for (size_t i = 0; i < l->n; i++) {
        struct ext4_entry *e = &l->entries[i];
        e->children = l->n;
        for (size_t k = 0; k < e->node->n_children; k++)
            l->entries[l->n++] = (struct ext4_entry){.node = e->node->children[k], .parent = i};
    }
}

/* True where an earlier entry makes this one's inode; counts the link then. */
static bool join_link(struct ext4_layout *l, struct link_table *links, size_t i)
{
    struct ext4_entry *e = &l->entries[i];
    if (!e->node->hardlink_id || e->node->kind != FSNODE_FILE)
        return false;
    struct link_slot *slot = link_table_at(links, e->node->hardlink_id);
    struct ext4_entry *first = &l->entries[slot->entry];
    if (!slot->id || first->links >= MAX_LINKS) {
        *slot = (struct link_slot){e->node->hardlink_id, i};
        return false;
    }
    first->links++;
    e->ino = first->ino;
    e->again = true;
    return true;
}

static void size_entry(const struct ext4_layout *l, struct ext4_entry *e)
{
    size_t next = 0;
    switch (e->node->kind) {
    case FSNODE_DIR:
        while (next < e->node->n_children + 2) {
            ext4_layout_dir_block(l, e, &next, NULL);
            e->size += EXT4_BLOCK;
        }
        break;
    case FSNODE_FILE:
        e->size = e->node->size;
        break;
    case FSNODE_SYMLINK:
        e->size = strlen(e->node->target);
        if (e->size < FAST_SYMLINK)
            return;
        break;
    case FSNODE_CHAR:
        return;
    }
    e->blocks = e->size / EXT4_BLOCK + (e->size % EXT4_BLOCK != 0);
}

/* Blocks of the extent tree at most: an inode has room for four extents. Extents end where other
 * things lie, at most once in 32,000 blocks, and at the latest after 32,768, so that a file of 16
 * MiB cannot need more. */
static uint64_t extent_blocks(uint64_t blocks)
{
    return blocks <= 4096 ? 0 : 2 + blocks / 32000 / 100;
}

static uint32_t dir_links(const struct fsnode *n)
{
    uint32_t links = 2;
    for (size_t i = 0; i < n->n_children; i++)
        links += n->children[i]->kind == FSNODE_DIR;
    return links > MAX_LINKS ? 1 : links; /* 1: "not counted", the feature dir_nlink */
}

static int number_inodes(struct ext4_layout *l, struct mvm_error *err)
{
    CLEANUP(link_table_done) struct link_table links = {0};
    if (link_table_init(&links, l) < 0)
        return mvm_error_errno(err, -ENOMEM, "ext4");
    uint64_t ino = EXT4_FIRST_INODE;
    for (size_t i = 0; i < l->n; i++) {
        struct ext4_entry *e = &l->entries[i];
        if (join_link(l, &links, i))
            continue;
        if (ino > UINT32_MAX - 65536)
            return mvm_error_set(err, -EFBIG, "too many files for one file system");
        e->ino = i == 0 ? EXT4_ROOT : (uint32_t)ino++;
        e->links = e->node->kind == FSNODE_DIR ? dir_links(e->node) : 1;
        size_entry(l, e);
        if (e->blocks >= UINT32_MAX)
            return mvm_error_set(err, -EFBIG, "%s is too large for ext4", e->node->name);
        l->blocks += e->blocks + extent_blocks(e->blocks);
    }
    l->n_inodes = ino - EXT4_FIRST_INODE;
    return 0;
}

int ext4_layout_init(struct ext4_layout *l, const struct fstree *tree, struct mvm_error *err)
{
    static const struct fsnode empty = {.kind = FSNODE_DIR, .mode = 0755};
    const struct fsnode *root = tree ? tree->root : &empty;
    *l = (struct ext4_layout){0};
    l->entries = calloc(count_nodes(root), sizeof(*l->entries));
    if (!l->entries)
        return mvm_error_errno(err, -ENOMEM, "ext4");
    list_entries(l, root);
    return number_inodes(l, err);
}

void ext4_layout_done(struct ext4_layout *l)
{
    free(l->entries);
    *l = (struct ext4_layout){0};
}

static uint8_t file_type(enum fsnode_kind kind)
{
    static const uint8_t types[] = {
        [FSNODE_DIR] = EXT2_FT_DIR,
        [FSNODE_FILE] = EXT2_FT_REG_FILE,
        [FSNODE_SYMLINK] = EXT2_FT_SYMLINK,
        [FSNODE_CHAR] = EXT2_FT_CHRDEV,
    };
    return types[kind];
}

void ext4_layout_dir_block(const struct ext4_layout *l, const struct ext4_entry *dir, size_t *next, uint8_t *block)
{
    size_t at = 0, all = dir->node->n_children + 2;
    struct ext2_dir_entry_2 *last = NULL;
    if (block)
        memset(block, 0, EXT4_BLOCK);
    for (; *next < all; ++*next) {
        const struct ext4_entry *e = *next == 0   ? dir
                                     : *next == 1 ? &l->entries[dir->parent]
                                                  : &l->entries[dir->children + *next - 2];
        const char *name = *next == 0 ? "." : *next == 1 ? ".." : e->node->name;
        size_t len = strlen(name), room = 8 + ((len + 3) & ~(size_t)3);
        if (at + room > DIR_ROOM)
            break;
        if (block) {
            last = (struct ext2_dir_entry_2 *)(void *)(block + at);
            last->inode = e->ino;
            last->rec_len = (uint16_t)room;
            last->name_len = (uint8_t)len;
            last->file_type = file_type(e->node->kind);
            memcpy(last->name, name, len);
        }
        at += room;
    }
    if (last) /* the last entry of a block reaches to its end */
        last->rec_len = (uint16_t)(DIR_ROOM - (size_t)((uint8_t *)last - block));
}
