/*
 * Nix's own collector does the work: it knows what running builds use, so that nothing here has to keep them out.
 * What is to stay is a symlink in NIX_STORE_ROOTS, one for each output of an image that the host still has; its age
 * says when it was built last. Nix collects in no order, so "oldest first" is done by giving up the older half of the
 * roots, and collecting again, until there is room.
 *
 * On a full disk nothing can be collected, because Nix cannot write its database: RESERVE keeps some room for that.
 */
#include "guest/nix_store.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "guest/boot.h"
#include "guest/file_cache.h"
#include "guest/folders.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg_build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STORE       "/nix/store/"
#define RESERVE     "/nix/mvm-reserve"
#define MAX_ROOTS   4096
#define SLACK       (16ull << 20)
#define MAX_RESERVE (32ull << 20)
#define MAX_DEAD    (16u << 20)
#define WAIT_MS     (20 * 60 * 1000)

/* Of the last program that failed. */
static char last_words[200];

int nix_store_run(const char *const argv[], struct buf *out)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" BUILD_HOME, "USER=root",
                                      "LANG=C.UTF-8", NULL};
    const struct process_opts o = {.argv = argv, .envp = env, .cwd = "/", .stdin_fd = -1, .die_with_parent = true};
    CLEAN_BUF struct buf said = BUF_INIT(800);
    CLEAN_BUF struct buf text = BUF_INIT(64 * 1024);
    struct mvm_error err = MVM_ERROR_INIT;
    int code = process_capture(&o, out ? out : &text, &said, clock_deadline(WAIT_MS), &err);
    last_words[0] = '\0';
    if (code < 0)
        boot_log("%s", err.msg);
    else if (code > 0)
        snprintf(last_words, sizeof(last_words), "%s", buf_cstr(&said));
    if (code > 0)
        boot_log("%s: status %d: %.600s%.200s", argv[0], code, buf_cstr(&said), buf_cstr(&text));
    return code;
}

/* ---- Room ---- */

uint64_t nix_store_size(uint64_t *ret_used)
{
    struct statvfs v;
    if (statvfs("/nix", &v) < 0)
        return *ret_used = 0;
    *ret_used = (uint64_t)(v.f_blocks - v.f_bfree) * v.f_frsize;
    return (uint64_t)v.f_blocks * v.f_frsize;
}

/* Room that nobody gets, until it is given up for a collection. On a disk that is full already there is none to take.
 */
void nix_store_take_reserve(void)
{
    struct stat st;
    uint64_t used, size = nix_store_size(&used);
    off_t wanted = (off_t)MIN_OF(size / 32, MAX_RESERVE);
    CLEAN_FD int fd = open(RESERVE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || (fstat(fd, &st) == 0 && st.st_size >= wanted && st.st_blocks * 512 >= wanted))
        return;
    if (fallocate(fd, 0, 0, wanted) < 0)
        nix_store_drop_reserve();
}

void nix_store_drop_reserve(void)
{
    unlink(RESERVE);
}

/* ---- Roots ---- */

bool nix_store_is_path(const char *path)
{
    return strncmp(path, STORE, sizeof(STORE) - 1) == 0 && path_is_plain_name(path + sizeof(STORE) - 1, NAME_MAX);
}

int nix_store_protect(const char *path)
{
    char link[PATH_MAX];
    if (!nix_store_is_path(path))
        return -EINVAL;
    snprintf(link, sizeof(link), NIX_STORE_ROOTS "/%s", path + sizeof(STORE) - 1);
    /* Made anew, so that its age is that of the newest build. */
    unlink(link);
    return symlink(path, link) < 0 ? -errno : 0;
}

static bool is_live(const struct msg_strings *live, const char *name)
{
    for (size_t i = 0; i < live->n; i++)
        if (nix_store_is_path(live->v[i]) && strcmp(live->v[i] + sizeof(STORE) - 1, name) == 0)
            return true;
    return false;
}

/* Gives up what the host no longer has. What it has without a root here is not worth one: its root went for room. */
static void prune_roots(const struct msg_strings *live)
{
    DIR *d = opendir(NIX_STORE_ROOTS);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.' && !is_live(live, e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

struct root {
    char name[NAME_MAX + 1];
    struct timespec at;
};

static int by_age(const void *a, const void *b)
{
    const struct root *x = a, *y = b;
    if (x->at.tv_sec != y->at.tv_sec)
        return x->at.tv_sec < y->at.tv_sec ? -1 : 1;
    return (x->at.tv_nsec > y->at.tv_nsec) - (x->at.tv_nsec < y->at.tv_nsec);
}

/* False where there is none to give up. */
static bool drop_older_half(void)
{
    CLEAN_FREE struct root *v = calloc(MAX_ROOTS, sizeof(*v));
    DIR *d = v ? opendir(NIX_STORE_ROOTS) : NULL;
    struct stat st;
    size_t n = 0;
    for (struct dirent *e; d && n < MAX_ROOTS && (e = readdir(d));) {
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        snprintf(v[n].name, sizeof(v[n].name), "%s", e->d_name);
        v[n++].at = st.st_mtim;
    }
    if (n)
        qsort(v, n, sizeof(*v), by_age);
    for (size_t i = 0; i < (n + 1) / 2; i++)
        unlinkat(dirfd(d), v[i].name, 0);
    if (d)
        closedir(d);
    return n > 0;
}

/* ---- Collection ---- */

/* Frees at least `bytes` where that much is garbage. keep_inputs: what live outputs were built from is none. */
static int collect(uint64_t bytes, bool keep_inputs)
{
    char max[32];
    snprintf(max, sizeof(max), "%llu", (unsigned long long)bytes);
    const char *const argv[] = {
        "nix-store", "--gc", "--max-freed", max, "--option", "keep-outputs", keep_inputs ? "true" : "false", NULL};
    int code = nix_store_run(argv, NULL);
    return code > 0 ? -EIO : code;
}

static int collect_rounds(uint64_t target)
{
    file_cache_sweep(FILE_CACHE_MIN_AGE_S);
    uint64_t used;
    for (unsigned round = 0;; round++) {
        nix_store_size(&used);
        if (used <= target || (round > 1 && !drop_older_half()))
            return 0;
        int r = collect(used - target, round == 0);
        if (r < 0)
            return r;
    }
}

/* Frees until at most `target` bytes are used. 0, also where there was not so much to free. */
static int collect_to(uint64_t target)
{
    nix_store_drop_reserve();
    int r = collect_rounds(target);
    nix_store_take_reserve();
    return r;
}

/* Tells the disk, and by it the host's file, what is free. Mounted with discard most of it is told already. */
static void trim(void)
{
    struct fstrim_range all = {.len = UINT64_MAX};
    CLEAN_FD int dir = open("/nix", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        (void)!syncfs(dir);
    if (dir >= 0 && ioctl(dir, FITRIM, &all) < 0)
        boot_log("the store cannot be trimmed: %s", strerror(errno));
}

bool nix_store_make_room(void)
{
    uint64_t before, after;
    nix_store_size(&before);
    /* How much it needs nobody knows: all that nothing running uses goes. */
    if (collect_to(0) < 0)
        return false;
    nix_store_size(&after);
    return after < before;
}

/* ---- What could be freed ---- */

static uint64_t blocks_seen;

static int count_blocks(const char *path, const struct stat *st, int type, struct FTW *at)
{
    if (type != FTW_NS)
        blocks_seen += (uint64_t)st->st_blocks;
    return 0;
}

static int survey(uint64_t *ret)
{
    static const char *const argv[] = {"nix-store", "--gc", "--print-dead", "--option", "keep-outputs", "true", NULL};
    CLEAN_BUF struct buf dead = BUF_INIT(MAX_DEAD);
    int code = nix_store_run(argv, &dead);
    if (code != 0)
        return code < 0 ? code : -EIO;
    blocks_seen = 0;
    char *at = dead.len ? (char *)dead.data : NULL;
    for (char *line = strsep(&at, "\n"); line; line = strsep(&at, "\n"))
        if (nix_store_is_path(line) && nftw(line, count_blocks, 16, FTW_PHYS | FTW_MOUNT) < 0)
            return -errno;
    *ret = blocks_seen * 512;
    return 0;
}

/* An eighth more or less is little. */
static bool has_changed(uint64_t before, uint64_t now)
{
    return (now > before ? now - before : before - now) > before / 8 + SLACK;
}

void nix_store_serve(int sock, const struct msg_store *m)
{
    struct msg_store_reply reply = {0};
    struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    uint64_t before;
    int r = 0;
    prune_roots(&m->live);
    nix_store_size(&before);
    if (m->above && before > m->above) {
        r = collect_to(m->target);
        trim();
    }
    reply.size = nix_store_size(&reply.used);
    reply.freed = before > reply.used ? before - reply.used : 0;
    if (r == 0 && m->survey && has_changed(m->surveyed, reply.used)) {
        r = survey(&reply.reclaimable);
        reply.surveyed = r == 0;
    }
    if (r < 0)
        snprintf(reply.problem, sizeof(reply.problem), "%s%s%s", strerror(-r), last_words[0] ? ": " : "", last_words);
    r = msg_store_reply_encode(&b, &reply);
    worker_last(sock, &b, r);
}
