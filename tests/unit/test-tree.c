/* Trees: what is sent arrives, holes as holes; a hostile sender gets nothing past the receiver. */
#include "failing.h"
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "wire/frame.h"
#include "wire/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Records as the sender emits them. */
struct tape {
    struct {
        uint8_t channel;
        struct buf bytes;
    } r[400];
    size_t n;
    int error;                 /* what emit returns */
    void (*meanwhile)(int fd); /* called at the first chunk */
    int fd;
};

static int tape_emit(void *data, uint8_t channel, const void *p, size_t n)
{
    struct tape *t = data;
    if (t->error)
        return t->error;
    if (t->n == ARRAY_SIZE(t->r))
        return -ENOSPC;
    if (channel == CHAN_TREE && t->meanwhile) {
        t->meanwhile(t->fd);
        t->meanwhile = NULL;
    }
    t->r[t->n].channel = channel;
    t->r[t->n].bytes.max = FRAME_MAX_PAYLOAD;
    int r = buf_append(&t->r[t->n].bytes, p, n);
    t->n += r == 0;
    return r;
}

static void tape_done(struct tape *t)
{
    for (size_t i = 0; i < t->n; i++)
        buf_done(&t->r[i].bytes);
    t->n = 0;
}

static int tape_play(const struct tape *t, struct tree_receiver *r, struct mvm_error *err)
{
    int e = 0;
    for (size_t i = 0; e == 0 && i < t->n; i++) {
        /* Copied to memory of the exact size, where the sanitizer sees what is read behind it. */
        size_t n = t->r[i].bytes.len;
        CLEAN_FREE uint8_t *copy = malloc(n ? n : 1);
        memcpy(copy, t->r[i].bytes.data, n);
        e = tree_receive(r, t->r[i].channel, copy, n, err);
    }
    return e;
}

static const struct tree_limits roomy = {1ull << 40, 1ull << 40, 1000000};
static int scratch = -1; /* the folder of this run */

/* An empty folder of that name. */
static int fresh(const char *name)
{
    if (path_remove_tree(scratch, name) < 0 || mkdirat(scratch, name, 0700) < 0)
        return -1;
    return openat(scratch, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool same_files(int dir_a, const char *a, int dir_b, const char *b)
{
    CLEAN_BUF struct buf x = BUF_INIT(64u << 20);
    CLEAN_BUF struct buf y = BUF_INIT(64u << 20);
    return path_read_file(dir_a, a, &x, NULL) == 0 && path_read_file(dir_b, b, &y, NULL) == 0 && x.len == y.len &&
           (x.len == 0 || memcmp(x.data, y.data, x.len) == 0);
}

static mode_t mode_of(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

/* 8 MiB and a bit: data at the front, single blocks between zeros that are written and between
 * holes, a hole behind. */
static int make_sparse(int dir)
{
    static uint8_t block[200000];
    int fd = openat(dir, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    fill(block, sizeof(block), 5);
    memset(block + 8192, 0, 16384);
    memset(block + 65536, 0, 4096);
    if (fd < 0 || fd_pwrite_all(fd, block, sizeof(block), 0) < 0 || fd_pwrite_all(fd, block, 5000, 3u << 20) < 0 ||
        fd_pwrite_all(fd, block, 1, 5u << 20) < 0 || ftruncate(fd, (8 << 20) + 77) < 0)
        return -1;
    return fd;
}

struct watched {
    uint64_t bytes, holes, size;
    unsigned files;
};

static void watch_content(void *data, const char *path, const void *p, uint64_t n)
{
    struct watched *w = data;
    *(p ? &w->bytes : &w->holes) += n;
}

static void watch_done(void *data, const char *path, uint64_t size)
{
    struct watched *w = data;
    w->files++;
    w->size += size;
}

static void tree_round_trip(void)
{
    CLEAN_FD int in = fresh("in");
    CLEAN_FD int out = fresh("out");
    CLEAN_FD int sparse = make_sparse(in);
    static struct tape t;
    struct tree_sender s = {.emit = tape_emit, .data = &t, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    struct mvm_error err = MVM_ERROR_INIT;
    int r = tree_send_dir(&s, "d", 0500, &err);
    r |= tree_send_dir(&s, "d/e", 0755, &err);
    r |= tree_send_file(&s, "d/e/sparse", sparse, &err);
    r |= tree_send_memory(&s, "d/tool", 04755, "#!", 2, &err);
    r |= tree_send_memory(&s, "d/empty", 0444, NULL, 0, &err);
    r |= tree_send_symlink(&s, "d/link", "../../../etc/passwd", &err);
    r |= tree_send_dir(&s, "d", 0700, &err);
    r |= tree_send_end(&s, &err);
    ok(r == 0, "a tree is sent%s%s", err.code ? ": " : "", err.msg);
    struct tree_receiver rx;
    struct watched w = {0};
    tree_receiver_init(&rx, out, &roomy);
    rx.content = watch_content;
    rx.file_done = watch_done;
    rx.data = &w;
    mode_t mask = umask(077);
    r = tape_play(&t, &rx, &err);
    umask(mask);
    ok(r == 0 && rx.complete, "and received%s%s", err.code ? ": " : "", err.msg);
    ok(same_files(in, "sparse", out, "d/e/sparse"), "the content is the same");
    struct stat st = {0};
    bool there = fstatat(out, "d/e/sparse", &st, 0) == 0;
    ok(there && st.st_blocks * 512 < 400000 && st.st_size == (8 << 20) + 77, "holes stay holes (%lld KiB of %lld)",
       (long long)st.st_blocks / 2, (long long)st.st_size / 1024);
    ok(rx.bytes < 200000 - 16384 - 4096 + 5000 + 3 * 4096, "blocks of zeros do not travel (%llu bytes)",
       (unsigned long long)rx.bytes);
    ok(w.files == 3 && w.size == (8 << 20) + 77 + 2 && w.bytes + w.holes == w.size && w.bytes == rx.bytes,
       "the watcher saw every byte and every hole");
    ok(mode_of(out, "d/e/sparse") == (S_IFREG | 0640), "modes come along, whatever the umask");
    ok(mode_of(out, "d/tool") == (S_IFREG | 0755), "but no set-user-ID bit");
    ok(mode_of(out, "d/empty") == (S_IFREG | 0444) && mode_of(out, "d") == (S_IFDIR | 0700) &&
           mode_of(out, "d/e") == (S_IFDIR | 0755),
       "folders stay usable by their owner");
    char target[64] = "";
    ok(readlinkat(out, "d/link", target, sizeof(target)) > 0 && strcmp(target, "../../../etc/passwd") == 0,
       "a symlink is made as it is");
    ok(tree_receive(&rx, CHAN_MSG, t.r[0].bytes.data, t.r[0].bytes.len, &err) == -EPROTO,
       "nothing comes behind the end");
    tree_receiver_done(&rx);
    tree_sender_done(&s);
    tape_done(&t);
}

/* One entry into a receiver; the result of tree_receive. */
static int put_entry(struct tree_receiver *t, uint64_t kind, const char *path, uint64_t size, const char *target)
{
    static struct msg_entry e;
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    memset(&e, 0, sizeof(e));
    e.kind = kind;
    e.mode = 0644;
    e.size = size;
    snprintf(e.path, sizeof(e.path), "%s", path);
    snprintf(e.target, sizeof(e.target), "%s", target);
    int r = msg_entry_encode(&b, &e);
    return r < 0 ? r : tree_receive(t, CHAN_MSG, b.data, b.len, &err);
}

static int put_chunk(struct tree_receiver *t, uint64_t offset, size_t n, uint64_t wrong)
{
    static uint8_t record[TREE_CHUNK_HEADER + TREE_MAX_CHUNK + 1];
    struct mvm_error err = MVM_ERROR_INIT;
    fill(record + TREE_CHUNK_HEADER, n, offset);
    uint64_t sum = tree_checksum(record + TREE_CHUNK_HEADER, n) ^ wrong;
    for (int i = 0; i < 8; i++) {
        record[i] = (uint8_t)(offset >> (8 * i));
        record[8 + i] = (uint8_t)(sum >> (8 * i));
    }
    return tree_receive(t, CHAN_TREE, record, TREE_CHUNK_HEADER + n, &err);
}

static void tree_hostile_paths(void)
{
    static const char *const bad[] = {"../x", "/x", "a/../../x", "./x", "a//x", "x/", "..", ".", ""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bool good = true;
        for (uint64_t kind = ENTRY_FILE; kind <= ENTRY_SYMLINK; kind++) {
            CLEAN_FD int out = fresh("out");
            struct tree_receiver t;
            tree_receiver_init(&t, out, &roomy);
            good &= put_entry(&t, kind, bad[i], 1, "y") == -EPROTO;
            good &= put_entry(&t, ENTRY_FILE, "fine", 1, "") == -EPROTO;
            tree_receiver_done(&t);
        }
        ok(good && mode_of(scratch, "x") == 0, "path '%s' is refused, and the tree with it", bad[i]);
    }
    static const struct {
        const char *what;
        uint64_t kind;
        const char *path;
    } below[] = {
        {"a file below a symlink", ENTRY_FILE, "link/x"},      {"a folder below a symlink", ENTRY_DIR, "link/x"},
        {"a link below a symlink", ENTRY_SYMLINK, "link/x"},   {"a file in place of a symlink", ENTRY_FILE, "link"},
        {"a folder in place of a symlink", ENTRY_DIR, "link"}, {"a symlink in place of one", ENTRY_SYMLINK, "link"},
        {"a file without its folder", ENTRY_FILE, "no/x"},     {"a folder without its folder", ENTRY_DIR, "no/x"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(below); i++) {
        CLEAN_FD int out = fresh("out");
        CLEAN_FD int victim = fresh("victim");
        struct tree_receiver t;
        tree_receiver_init(&t, out, &roomy);
        bool good = put_entry(&t, ENTRY_SYMLINK, "link", 0, "../victim") == 0;
        good &= put_entry(&t, below[i].kind, below[i].path, 0, "t") < 0;
        tree_receiver_done(&t);
        ok(good && mode_of(victim, "x") == 0 && S_ISLNK(mode_of(out, "link")), "%s is refused", below[i].what);
    }
}

/* What a hostile sender answers to somebody who asked for `x`, into a folder that has things of that name. */
static void tree_only_what_was_asked_for(void)
{
    struct sent {
        uint64_t kind;
        const char *path;
    };
    static const struct {
        const char *what;
        struct sent good[2], bad;
        bool no_link;
    } cases[] = {
        {"another name", {{0}}, {ENTRY_FILE, ".bashrc"}, false},
        {"a folder of another name", {{0}}, {ENTRY_DIR, ".ssh"}, false},
        {"a path without its top", {{0}}, {ENTRY_FILE, ".ssh/authorized_keys"}, false},
        {"a path without its top, of that name", {{0}}, {ENTRY_FILE, "x/authorized_keys"}, false},
        {"a name that only begins so", {{0}}, {ENTRY_FILE, "xy"}, false},
        {"a second top", {{ENTRY_FILE, "x"}}, {ENTRY_FILE, ".bashrc"}, false},
        {"a second top behind a folder", {{ENTRY_DIR, "x"}, {ENTRY_FILE, "x/a"}}, {ENTRY_FILE, "y"}, false},
        {"the same top twice", {{ENTRY_FILE, "x"}}, {ENTRY_FILE, "x"}, false},
        {"a folder, then a symlink in its place", {{ENTRY_DIR, "x"}}, {ENTRY_SYMLINK, "x"}, false},
        {"a symlink, then an entry through it", {{ENTRY_SYMLINK, "x"}}, {ENTRY_FILE, "x/a"}, false},
        {"a file, then an entry below it", {{ENTRY_FILE, "x"}}, {ENTRY_FILE, "x/a"}, false},
        {"an inner symlink, then an entry through it",
         {{ENTRY_DIR, "x"}, {ENTRY_SYMLINK, "x/l"}},
         {ENTRY_FILE, "x/l/a"},
         false},
        {"a name with ..", {{ENTRY_DIR, "x"}}, {ENTRY_FILE, "x/../y"}, false},
        {"a symlink where none was asked for", {{0}}, {ENTRY_SYMLINK, "x"}, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEAN_FD int out = fresh("out");
        struct tree_receiver t;
        tree_receiver_init(&t, out, &roomy);
        t.one_top = t.replace = true;
        t.expect = "x";
        t.no_link = cases[i].no_link;
        bool good = true;
        for (size_t k = 0; k < 2 && cases[i].good[k].kind; k++)
            good &= put_entry(&t, cases[i].good[k].kind, cases[i].good[k].path, 0, "..") == 0;
        good &= put_entry(&t, cases[i].bad.kind, cases[i].bad.path, 0, "..") < 0;
        tree_receiver_done(&t);
        ok(good && mode_of(out, ".bashrc") == 0 && mode_of(out, ".ssh") == 0 && mode_of(out, "y") == 0,
           "T3: %s is refused", cases[i].what);
    }
}

static void tree_replaces_its_own_kind(void)
{
    for (uint64_t kind = ENTRY_FILE; kind <= ENTRY_SYMLINK; kind++) {
        static const char *const there[] = {"file", "folder", "link", "fifo", "socket", "device"};
        static const char *const kinds[] = {"", "file", "folder", "link"};
        for (size_t i = 0; i < ARRAY_SIZE(there); i++) {
            CLEAN_FD int out = fresh("out");
            bool made = i == 0   ? mknodat(out, "x", S_IFREG | 0600, 0) == 0
                        : i == 1 ? mkdirat(out, "x", 0700) == 0
                        : i == 2 ? symlinkat("victim", out, "x") == 0
                        : i == 3 ? mkfifoat(out, "x", 0600) == 0
                        : i == 4 ? mknodat(out, "x", S_IFSOCK | 0600, 0) == 0
                                 : mknodat(out, "x", S_IFCHR | 0600, makedev(1, 3)) == 0;
            if (!made && i == 5) {
                ok(true, "R4: a device is not replaced # SKIP only root makes one");
                continue;
            }
            mode_t before = mode_of(out, "x");
            struct tree_receiver t;
            tree_receiver_init(&t, out, &roomy);
            t.replace = true;
            int r = put_entry(&t, kind, "x", 0, "elsewhere");
            tree_receiver_done(&t);
            bool same = strcmp(kinds[kind], there[i]) == 0;
            ok(made && r == (same ? 0 : -EEXIST) && (same || mode_of(out, "x") == before) &&
                   mode_of(out, "victim") == 0,
               "R4: a %s that is there is %s by a %s", there[i], same ? "replaced" : "not replaced", kinds[kind]);
        }
    }
}

static int count_names(int folder)
{
    int n = 0;
    DIR *d = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n - 2;
}

/* However the receiver ends, SIGKILL too. */
static void tree_names_whole_files(void)
{
    CLEAN_FD int out = fresh("out");
    CLEAN_FD int probe = openat(out, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
    if (probe < 0) {
        ok(true, "a file that is copied has no name before it is whole # SKIP no O_TMPFILE here");
        return;
    }
    struct tree_receiver t;
    tree_receiver_init(&t, out, &roomy);
    t.replace = true;
    bool good = put_entry(&t, ENTRY_FILE, "x", 10, "") == 0 && count_names(out) == 0;
    ok(good, "a file that is copied has no name before it is whole");
    good = put_entry(&t, ENTRY_FILE, "x", 20, "") == 0 && count_names(out) == 1 && mode_of(out, "x") != 0;
    ok(good, "then it has");
    struct stat st = {0};
    good = put_entry(&t, ENTRY_FILE, "y", 10, "") == 0 && count_names(out) == 1 && fstatat(out, "x", &st, 0) == 0;
    ok(good && st.st_size == 20, "the next one of that name takes its place");
    tree_receiver_done(&t);
    ok(count_names(out) == 1, "half of another one leaves nothing");
}

static void tree_odd_sources(void)
{
    static struct tape t;
    struct tree_sender s = {.emit = tape_emit, .data = &t, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_FD int in = fresh("in");
    CLEAN_FD int out = fresh("out");
    ok(mkfifoat(in, "fifo", 0600) == 0 && tree_send_path(&s, in, "fifo", "fifo", &err) == -EINVAL &&
           strstr(err.msg, "it is a fifo") && t.n == 0,
       "R4: a fifo that is asked for is an error: %s", err.msg);
    int r = tree_send_path(&s, AT_FDCWD, "/proc/self/status", "status", &err);
    r = r == 0 ? tree_send_end(&s, &err) : r;
    struct tree_receiver rx;
    CLEAN_BUF struct buf b = BUF_INIT(1u << 20);
    tree_receiver_init(&rx, out, &roomy);
    ok(r == 0 && tape_play(&t, &rx, &err) == 0 && path_read_file(out, "status", &b, &err) == 0 && b.len > 100 &&
           memcmp(b.data, "Name:", 5) == 0,
       "R4: a file of /proc is read until it ends");
    tree_receiver_done(&rx);
    tree_sender_done(&s);
    tape_done(&t);
}

/* A file of 100000 bytes announced, then chunks; the last one decides. */
static void tree_strict_content(void)
{
    static const struct {
        const char *what;
        int want;
        uint64_t at[2];
        size_t n[2];
        uint64_t wrong;
    } cases[] = {
        {"chunks in order", 0, {0, 5000}, {5000, 6000}, 0},
        {"a hole between chunks", 0, {0, 50000}, {5000, 50000}, 0},
        {"a chunk that overlaps", -EPROTO, {0, 4999}, {5000, 6000}, 0},
        {"a chunk that comes again", -EPROTO, {10, 10}, {10, 10}, 0},
        {"a chunk before another", -EPROTO, {50000, 0}, {10, 10}, 0},
        {"a chunk beyond the size", -EPROTO, {0, 100000}, {10, 1}, 0},
        {"a chunk across the size", -EPROTO, {0, 99999}, {10, 2}, 0},
        {"an offset near the end of numbers", -EPROTO, {0, UINT64_MAX}, {10, 10}, 0},
        {"an empty chunk", -EPROTO, {0, 10}, {10, 0}, 0},
        {"a chunk that is too long", -EPROTO, {0, 10}, {10, TREE_MAX_CHUNK + 1}, 0},
        {"a wrong checksum", -EBADMSG, {0, 10}, {10, 10}, 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEAN_FD int out = fresh("out");
        struct tree_receiver t;
        tree_receiver_init(&t, out, &roomy);
        bool good = put_entry(&t, ENTRY_FILE, "f", 100000, "") == 0;
        good &= put_chunk(&t, cases[i].at[0], cases[i].n[0], 0) == 0;
        good &= put_chunk(&t, cases[i].at[1], cases[i].n[1], cases[i].wrong) == cases[i].want;
        if (cases[i].want < 0)
            good &= mode_of(out, "f") == 0 && put_entry(&t, ENTRY_DIR, "d", 0, "") == -EPROTO;
        else
            good &= put_entry(&t, ENTRY_DIR, "d", 0, "") == 0 && mode_of(out, "f") == (S_IFREG | 0644);
        tree_receiver_done(&t);
        ok(good, "%s: %s", cases[i].what, cases[i].want ? "refused, no half file is left" : "fine");
    }
}

static void tree_strict_records(void)
{
    CLEAN_FD int out = fresh("out");
    struct tree_receiver t;
    struct mvm_error err = MVM_ERROR_INIT;
    tree_receiver_init(&t, out, &roomy);
    ok(put_chunk(&t, 0, 10, 0) == -EPROTO, "data before any file is refused");
    tree_receiver_init(&t, out, &roomy);
    bool good = put_entry(&t, ENTRY_DIR, "d", 0, "") == 0;
    ok(good && put_chunk(&t, 0, 10, 0) == -EPROTO, "data for a folder is refused");
    tree_receiver_done(&t);
    tree_receiver_init(&t, out, &roomy);
    ok(put_entry(&t, 4, "x", 0, "") == -EPROTO, "an unknown kind is refused");
    tree_receiver_done(&t);
    tree_receiver_init(&t, out, &roomy);
    ok(put_entry(&t, ENTRY_SYMLINK, "x", 0, "") == -EPROTO, "a symlink to nothing is refused");
    tree_receiver_done(&t);
    static const uint8_t other[] = {MSG_EXIT, 1};
    tree_receiver_init(&t, out, &roomy);
    ok(tree_receive(&t, CHAN_MSG, other, 2, &err) == -EPROTO, "another message is refused");
    tree_receiver_init(&t, out, &roomy);
    ok(tree_receive(&t, CHAN_OUT, "x", 1, &err) == -EPROTO, "another channel is refused");
    tree_receiver_init(&t, out, &roomy);
    ok(tree_receive(&t, CHAN_TREE, "x", 1, NULL) == -EPROTO, "an error may go unheard");
    tree_receiver_init(&t, out, &roomy);
    good = put_entry(&t, ENTRY_FILE, "half", 10, "") == 0 && mode_of(out, "half") != 0;
    tree_receiver_done(&t);
    ok(good && mode_of(out, "half") == 0, "a receiver that ends early leaves no half file");
    tree_receiver_init(&t, out, &roomy);
    good = put_entry(&t, ENTRY_FILE, "whole", 10, "") == 0 && put_entry(&t, ENTRY_FILE, "whole", 10, "") == -EEXIST;
    tree_receiver_done(&t);
    ok(good && mode_of(out, "whole") != 0, "a file that is there is not replaced, nor removed");
}

static void tree_keeps_limits(void)
{
    CLEAN_FD int out = fresh("out");
    static const struct tree_limits tight = {.max_bytes = 100, .max_size = 1000, .max_entries = 3};
    struct tree_receiver t;
    tree_receiver_init(&t, out, &tight);
    bool good = put_entry(&t, ENTRY_FILE, "a", 1000, "") == 0 && put_chunk(&t, 900, 60, 0) == 0;
    good &= put_entry(&t, ENTRY_FILE, "b", 50, "") == 0 && put_chunk(&t, 0, 40, 0) == 0;
    ok(good, "what is within the limits is taken; holes are free");
    ok(put_chunk(&t, 40, 1, 0) == -EFBIG, "a byte too much is refused");
    tree_receiver_done(&t);
    tree_receiver_init(&t, out, &tight);
    ok(put_entry(&t, ENTRY_FILE, "c", 1001, "") == -EFBIG, "so is a file that is too large");
    tree_receiver_done(&t);
    tree_receiver_init(&t, out, &tight);
    for (int i = 0; i < 3; i++)
        good &= put_entry(&t, ENTRY_DIR, "d", 0, "") == 0;
    ok(good && put_entry(&t, ENTRY_DIR, "d", 0, "") == -EFBIG, "and an entry too many");
    tree_receiver_done(&t);
    struct tree_limits none = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    tree_receiver_init(&t, out, &none);
    ok(put_entry(&t, ENTRY_FILE, "e", (uint64_t)INT64_MAX + 1, "") == -EFBIG, "no size is negative");
    tree_receiver_done(&t);
}

static void grow(int fd)
{
    (void)!ftruncate(fd, 300000);
}

static void shrink(int fd)
{
    (void)!ftruncate(fd, 100);
}

static void tree_sender_errors(void)
{
    static const struct {
        const char *what;
        void (*meanwhile)(int fd);
        off_t data;
    } cases[] = {{"grows", grow, 200000}, {"shrinks", shrink, 200000}, {"loses its hole", shrink, 100}};
    struct mvm_error err = MVM_ERROR_INIT;
    static struct tape t;
    struct tree_sender s = {.emit = tape_emit, .data = &t, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        static uint8_t bytes[200000];
        fill(bytes, sizeof(bytes), 0);
        CLEAN_FD int in = fresh("in");
        CLEAN_FD int fd = openat(in, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        bool good = fd_pwrite_all(fd, bytes, (size_t)cases[i].data, 0) == 0 && ftruncate(fd, 200000) == 0;
        t.meanwhile = cases[i].meanwhile;
        t.fd = fd;
        ok(good && tree_send_file(&s, "f", fd, &err) == -ESTALE, "a file that %s is noticed: %s", cases[i].what,
           err.msg);
        tape_done(&t);
    }
    ok(tree_send_file(&s, "d", scratch, &err) == -EINVAL, "a folder is no file: %s", err.msg);
    static char longer[ENTRY_MAX_PATH + 1];
    memset(longer, 'x', ENTRY_MAX_PATH);
    ok(tree_send_dir(&s, longer, 0755, &err) == -ENAMETOOLONG, "a path that is too long is not sent");
    ok(tree_send_symlink(&s, "l", longer, &err) == -ENAMETOOLONG, "nor such a target");
    t.error = -EPIPE;
    ok(tree_send_memory(&s, "m", 0644, "x", 1, &err) == -EPIPE && tree_send_end(&s, &err) == -EPIPE,
       "the emitter's error comes back: %s", err.msg);
    t.error = 0;
    tree_sender_done(&s);
    tape_done(&t);
}

static void tree_out_of_memory(void)
{
    static struct tape t;
    struct mvm_error err = MVM_ERROR_INIT;
    struct tree_sender s = {.emit = tape_emit, .data = &t, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    bool good = true;
    int r = -ENOMEM;
    for (long k = 0; r == -ENOMEM && k < 100; k++) {
        tree_sender_done(&s);
        tape_done(&t);
        fail_at = k;
        r = tree_send_dir(&s, "d", 0755, &err);
        if (r == 0)
            r = tree_send_memory(&s, "d/f", 0644, "hello", 5, &err);
        if (r == 0)
            r = tree_send_symlink(&s, "d/l", "f", &err);
        fail_at = -1;
        good &= r == 0 || r == -ENOMEM;
    }
    ok(good && r == 0, "sending survives running out of memory");
    r = -ENOMEM;
    for (long k = 0; r == -ENOMEM && k < 100; k++) {
        CLEAN_FD int out = fresh("out");
        struct tree_receiver rx;
        tree_receiver_init(&rx, out, &roomy);
        r = 0;
        fail_at = k;
        for (size_t i = 0; r == 0 && i < t.n; i++)
            r = tree_receive(&rx, t.r[i].channel, t.r[i].bytes.data, t.r[i].bytes.len, &err);
        fail_at = -1;
        good &= r == 0 || r == -ENOMEM;
        tree_receiver_done(&rx);
    }
    ok(good && r == 0, "so does receiving");
    tree_sender_done(&s);
    tape_done(&t);
}

/* Computed from the definition in protocol.md by another program. */
static void tree_checksums(void)
{
    static uint8_t bytes[1000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    ok(tree_checksum(NULL, 0) == 0x5a9a4149367f726dull, "checksum of nothing");
    ok(tree_checksum("a", 1) == 0x352c381aded4ab89ull, "checksum of one byte");
    ok(tree_checksum(bytes, 32) == 0x4ab27ef6130721dfull, "checksum of a whole stripe");
    ok(tree_checksum(bytes, 1000) == 0xe063cbbd3a84f960ull, "checksum of many and a rest");
    uint64_t sum = tree_checksum(bytes, 1000);
    bool good = true;
    for (size_t i = 0; i < 8000; i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        good &= tree_checksum(bytes, 1000) != sum;
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    ok(good, "every single bit counts");
}

/* ---- Files that the receiver has from another time ---- */

static int kept_fd = -1;
static unsigned n_kept;

static int take_kept(void *data, const uint8_t *key, int parent, const char *name)
{
    char file[8];
    snprintf(file, sizeof(file), "%02x", key[0]);
    return linkat(kept_fd, file, parent, name, 0) < 0 ? -errno : 0;
}

static void keep_file(void *data, const uint8_t *key, const char *path)
{
    int tree = *(const int *)data;
    char file[8];
    snprintf(file, sizeof(file), "%02x", key[0]);
    n_kept += linkat(tree, path, kept_fd, file, 0) == 0;
}

static void tree_kept_files(void)
{
    static const struct tree_keeper keeper = {.take = take_kept, .keep = keep_file};
    struct mvm_error err = MVM_ERROR_INIT;
    struct tape t = {0}, again = {0}, unknown = {0};
    struct tree_sender s = {.emit = tape_emit, .data = &t, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    const uint8_t key[TREE_KEY_SIZE] = {0xab}, other[TREE_KEY_SIZE] = {0xcd};
    CLEAN_FD int one = path_open_dir(scratch, "one", &err);
    CLEAN_FD int two = path_open_dir(scratch, "two", &err);
    kept_fd = path_open_dir(scratch, "kept", &err);
    CLEAN_FD int file = openat(scratch, "source", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    CLEAN_BUF struct buf b = BUF_INIT(100);
    ok(fd_write_all(file, "content", 7) == 0 && tree_send_keyed(&s, "a", file, key, false, &err) == 0 &&
           tree_send_end(&s, &err) == 0,
       "a file is sent with its key");
    struct tree_receiver r;
    tree_receiver_init(&r, one, &roomy);
    r.keeper = &keeper;
    r.data = &one;
    ok(tape_play(&t, &r, &err) == 0 && n_kept == 1, "and kept");
    tree_receiver_done(&r);
    s.data = &again;
    ok(tree_send_keyed(&s, "sub-a", file, key, true, &err) == 0 && tree_send_end(&s, &err) == 0 && again.n == 2,
       "another time it is sent without its content");
    tree_receiver_init(&r, two, &roomy);
    r.keeper = &keeper;
    ok(tape_play(&again, &r, &err) == 0 && path_read_file(two, "sub-a", &b, &err) == 0 && b.len == 7 &&
           memcmp(b.data, "content", 7) == 0,
       "and is there");
    tree_receiver_done(&r);
    tree_receiver_init(&r, one, &roomy);
    ok(tape_play(&again, &r, &err) == -EPROTO, "who keeps nothing refuses it");
    tree_receiver_done(&r);
    s.data = &unknown;
    ok(tree_send_keyed(&s, "b", file, other, true, &err) == 0, "(one that was never kept)");
    tree_receiver_init(&r, two, &roomy);
    r.keeper = &keeper;
    ok(tape_play(&unknown, &r, &err) == -ENOENT && strstr(err.msg, "without its content"),
       "what is not there is an error");
    tree_receiver_done(&r);
    tree_sender_done(&s);
    tape_done(&t);
    tape_done(&again);
    tape_done(&unknown);
    close(kept_fd);
}

int main(void)
{
    const char *path = tap_folder();
    scratch = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!ok(scratch >= 0, "a scratch folder"))
        return tap_end();
    tree_checksums();
    tree_round_trip();
    tree_hostile_paths();
    tree_only_what_was_asked_for();
    tree_replaces_its_own_kind();
    tree_names_whole_files();
    tree_odd_sources();
    tree_strict_content();
    tree_strict_records();
    tree_keeps_limits();
    tree_sender_errors();
    tree_out_of_memory();
    tree_kept_files();
    close(scratch);
    ok(path_remove_tree(AT_FDCWD, path) == 0, "the scratch folder is gone");
    return tap_end();
}
