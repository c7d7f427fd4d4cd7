/*
 * A tree from a hostile sender. Whatever comes, nothing outside of the receiver's folder is made,
 * changed or removed, a refused tree stays refused, and the watcher is told of every byte of a
 * complete file.
 */
#include "fuzz.h"

#include "base/path.h"
#include "wire/frame.h"
#include "wire/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MAX_SIZE (1u << 20)

/* Folder of the run: "canary" must stay as it is, "root" is the receiver's, and there must be
 * nothing else. */
static int outside = -1;
static char outside_path[256];

static void sweep(void)
{
    (void)!path_remove_tree(AT_FDCWD, outside_path);
}

static void prepare(void)
{
    const char *tmp = getenv("MVM_TEST_TMP");
    snprintf(outside_path, sizeof(outside_path), "%.200s/fuzz-tree.XXXXXX", tmp ? tmp : "/tmp");
    MUST(mkdtemp(outside_path));
    atexit(sweep);
    outside = open(outside_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(outside >= 0 && mkdirat(outside, "canary", 0700) == 0);
    int fd = openat(outside, "canary/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0 && write(fd, "sings", 5) == 5);
    close(fd);
}

static void check_outside(void)
{
    int count = 0;
    int fd = openat(outside, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fdopendir(fd);
    MUST(d);
    while (readdir(d))
        count++;
    closedir(d);
    MUST(count == 4); /* ".", "..", "canary", "root" */
    char text[8] = "";
    fd = openat(outside, "canary/x", O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0 && read(fd, text, sizeof(text)) == 5 && memcmp(text, "sings", 5) == 0);
    close(fd);
}

static uint64_t told; /* bytes and holes of the current file */

static void on_content(void *data, const char *path, const void *p, uint64_t n)
{
    MUST(n > 0 && n <= MAX_SIZE && path_is_safe_relative(path));
    if (p)
        (void)tree_checksum(p, (size_t)n); /* every byte is there */
    told += n;
}

static void on_file_done(void *data, const char *path, uint64_t size)
{
    MUST(told == size && size <= MAX_SIZE);
    told = 0;
}

static int give(struct tree_receiver *t, uint8_t channel, const void *p, size_t n)
{
    struct mvm_error err = MVM_ERROR_INIT;
    bool over = t->complete || t->failed;
    int r = tree_receive(t, channel, p, n, &err);
    MUST(r <= 0 && (r == 0 || err.code == r) && (!over || r == -EPROTO));
    if (r < 0)
        MUST(t->failed && t->fd < 0);
    return r;
}

/* Names that meet each other, and the ones that ought not to be taken. */
static const char *const names[] = {"a",   "b",    "a/b",    "a/b/c", "b/x", "../canary/x", "..",        "/x",
                                    "./a", "a//b", "a/../b", "",      "a/x", "../x",        "../canary", "a/b/c/d"};

static void give_entry(struct tree_receiver *t, struct input *in)
{
    static struct msg_entry e;
    uint8_t which = input_u8(in);
    size_t n;
    memset(&e, 0, sizeof(e));
    e.kind = input_u8(in) % 5;
    e.mode = input_u16(in);
    e.size = input_u16(in) * 33u;
    snprintf(e.target, sizeof(e.target), "%s", names[input_u8(in) % 16]);
    if (which < 128) {
        snprintf(e.path, sizeof(e.path), "%s", names[which % 16]);
    } else {
        const uint8_t *p = input_bytes(in, which % 16, &n);
        memcpy(e.path, p, n);
    }
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    if (msg_entry_encode(&b, &e) == 0)
        give(t, CHAN_MSG, b.data, b.len);
}

static void give_chunk(struct tree_receiver *t, struct input *in)
{
    static uint8_t record[TREE_CHUNK_HEADER + TREE_MAX_CHUNK + 1];
    uint64_t offset = input_u16(in) * 17u;
    size_t n = input_u16(in) % (TREE_MAX_CHUNK + 2);
    uint8_t spoil = input_u8(in);
    memset(record + TREE_CHUNK_HEADER, spoil, n);
    uint64_t sum = tree_checksum(record + TREE_CHUNK_HEADER, n) ^ (spoil == 1);
    for (int i = 0; i < 8; i++) {
        record[i] = (uint8_t)(offset >> (8 * i));
        record[8 + i] = (uint8_t)(sum >> (8 * i));
    }
    give(t, CHAN_TREE, record, TREE_CHUNK_HEADER + n);
}

static void act(struct tree_receiver *t, struct input *in)
{
    static const uint8_t end[2] = {MSG_END, 1};
    uint8_t op = input_u8(in);
    size_t n;
    const uint8_t *p;
    switch (op % 8) {
    case 0:
        p = input_bytes(in, input_u8(in), &n);
        give(t, op >> 3, p, n);
        break;
    case 1:
        give(t, CHAN_MSG, end, sizeof(end));
        break;
    case 2:
    case 3:
    case 4:
        give_chunk(t, in);
        break;
    default:
        give_entry(t, in);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct tree_limits limits = {.max_bytes = MAX_SIZE, .max_size = MAX_SIZE, .max_entries = 20};
    if (outside < 0)
        prepare();
    MUST(mkdirat(outside, "root", 0700) == 0);
    int root = openat(outside, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct tree_receiver t;
    tree_receiver_init(&t, root, &limits);
    t.content = on_content;
    t.file_done = on_file_done;
    told = 0;
    struct input in = {data, size};
    for (int steps = 0; in.left && steps < 100; steps++)
        act(&t, &in);
    MUST(t.bytes <= limits.max_bytes);
    tree_receiver_done(&t);
    close(root);
    check_outside();
    MUST(path_remove_tree(outside, "root") == 0);
    return 0;
}
