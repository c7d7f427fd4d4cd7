/*
 * Nix's own collector does the work: it knows what running builds use, so that nothing here has to keep them out.
 * What is to stay is a symlink in ROOTS, one for each output of an image that the host still has; its age says when it
 * was built last. Nix collects in no order, so "oldest first" is done by giving up the older half of the roots, and
 * collecting again, until there is room.
 *
 * On a full disk nothing can be collected, because Nix cannot write its database: RESERVE keeps some room for that.
 */
#include "guest/nix_store.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "guest/file_cache.h"
#include "guest/guest.h"
#include "guest/source.h"
#include "wire/frame.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifndef EXT4_IOC_RESIZE_FS /* kernel: fs/ext4/ext4.h; no header for programs has it */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, __u64)
#endif

#define STORE        "/nix/store/"
#define ROOTS        "/nix/var/nix/gcroots/mvm"
#define RESERVE      "/nix/mvm-reserve"
#define NIX_CONF     "/etc/nix/nix.conf"
#define OLD_FILES    "/nix/mvm-files" /* what earlier versions kept, as the store does not have it */
#define CACHES       BUILD_HOME "/.cache/nix"
#define MAX_ROOTS    4096
#define SLACK        (16ull << 20)
#define MAX_RESERVE  (32ull << 20)
#define MAX_DEAD     (16u << 20)
#define WAIT_MS      (20 * 60 * 1000)
#define FREEZE_MAX_S 60
#define FREE_AT_MIN  (1ull << 30) /* at most: Nix begins to collect during a build where less is free ... */
#define FREE_AT_MAX  (4ull << 30) /* ... and ends where this much is */

/* Of the last program that failed. */
static char last_words[200];

/* Runs a program to its end; what it said goes to the kernel's log. The exit status or -errno. */
static int run(const char *const argv[], struct buf *out)
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

/* ---- Mounting ---- */

/* 0, with what was done in ret; -EBADMSG where the file system is beyond what can be repaired without asking. */
static int check_disk(const char *device, struct msg_configured *ret)
{
    const char *const argv[] = {"/usr/sbin/e2fsck", "-p", "-f", device, NULL};
    int code = run(argv, NULL);
    if (code < 0 || code >= 16) /* it did not run, or was killed */
        return code < 0 ? code : -EIO;
    if (code & (4 | 8))
        return -EBADMSG;
    strcpy(ret->store, code ? STORE_REPAIRED : STORE_OK);
    return 0;
}

static bool is_damage(int e)
{
    return e == -EINVAL || e == -EUCLEAN || e == -EBADMSG || e == -EIO;
}

/* Nix's settings, opened before the hello; -1: not, or not any more. */
static int nix_conf = -1;

static bool find_disk(char out[static 80])
{
    char name[64];
    if (!boot_param(boot_cmdline(), "mvm.store", name, sizeof(name)))
        return false;
    snprintf(out, 80, "/dev/%s", name);
    return true;
}

/* A snapshot of this guest continues with another disk: the kernel forgets what it has read of this one. */
static void forget_disk(const char *device)
{
    CLEAN_FD int disk = open(device, O_RDONLY | O_CLOEXEC);
    if (disk >= 0 && ioctl(disk, BLKFLSBUF, 0) < 0)
        boot_log("%s: buffers cannot be dropped: %s", device, strerror(errno));
}

void nix_store_prepare(void)
{
    char device[80];
    mkdir("/nix", 0755);
    nix_conf = open(NIX_CONF, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (find_disk(device))
        forget_disk(device);
}

static int mount_disk(const char *device)
{
    if (mount(device, "/nix", "ext4", MS_NOATIME | MS_NODEV, "discard,errors=remount-ro") < 0)
        return -errno;
    /* Damage that shows only when something is opened: the folders that everything else is in. */
    CLEAN_FD int dir = open("/nix", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    static const char *const names[] = {"store", "var/nix/db"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (fstatat(dir, names[i], &st, 0) == 0 || errno == ENOENT)
            continue;
        int e = -errno;
        (void)!umount2("/nix", MNT_DETACH);
        return e;
    }
    return 0;
}

static int check_and_mount(const char *device, bool check, struct msg_configured *ret)
{
    strcpy(ret->store, STORE_OK);
    int r = check ? check_disk(device, ret) : 0;
    if (r == 0)
        r = mount_disk(device);
    if (!check && is_damage(r)) {
        r = check_disk(device, ret);
        if (r == 0)
            r = mount_disk(device);
    }
    return r;
}

/* Opens the database and compares it with what is there: paths that were lost are struck off. */
static int check_database(void)
{
    if (access("/nix/var/nix/db/db.sqlite", F_OK) < 0)
        return 0;
    static const char *const argv[] = {"nix-store", "--verify", NULL};
    int code = run(argv, NULL);
    return code > 0 ? -EBADMSG : code;
}

/* The host may have made the disk larger. The file system's own size is the second number of its super block. */
static void grow(const char *device)
{
    CLEAN_FD int disk = open(device, O_RDONLY | O_CLOEXEC);
    struct statvfs v;
    uint64_t bytes = 0;
    uint32_t filled = 0;
    if (disk < 0 || statvfs("/nix", &v) < 0 || ioctl(disk, BLKGETSIZE64, &bytes) < 0 ||
        fd_pread_all(disk, &filled, sizeof(filled), 1024 + sizeof(uint32_t)) < 0)
        return;
    uint64_t blocks = bytes / v.f_bsize;
    if (blocks == le32toh(filled))
        return;
    CLEAN_FD int dir = open("/nix", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || ioctl(dir, EXT4_IOC_RESIZE_FS, &blocks) < 0)
        boot_log("the store cannot grow to its disk's size: %s", strerror(errno));
}

static uint64_t size_of_store(uint64_t *ret_used)
{
    struct statvfs v;
    if (statvfs("/nix", &v) < 0)
        return *ret_used = 0;
    *ret_used = (uint64_t)(v.f_blocks - v.f_bfree) * v.f_frsize;
    return (uint64_t)v.f_blocks * v.f_frsize;
}

/* Nix collects by itself during a build that is about to fill the disk. */
static void set_limits(uint64_t size)
{
    char text[128];
    int n =
        snprintf(text, sizeof(text), "min-free = %llu\nmax-free = %llu\n",
                 (unsigned long long)MIN_OF(size / 8, FREE_AT_MIN), (unsigned long long)MIN_OF(size / 4, FREE_AT_MAX));
    CLEAN_FD int fd = TAKE_FD(nix_conf);
    if (fd < 0 || fd_write_all(fd, text, (size_t)n) < 0)
        boot_log("cannot write " NIX_CONF ": %s", strerror(errno));
}

/* Room that nobody gets, until it is given up for a collection. On a disk that is full already there is none to take.
 */
static void take_reserve(void)
{
    struct stat st;
    uint64_t used, size = size_of_store(&used);
    off_t wanted = (off_t)MIN_OF(size / 32, MAX_RESERVE);
    CLEAN_FD int fd = open(RESERVE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || (fstat(fd, &st) == 0 && st.st_size >= wanted && st.st_blocks * 512 >= wanted))
        return;
    if (fallocate(fd, 0, 0, wanted) < 0)
        unlink(RESERVE);
}

/* Work folders are of jobs that were killed. False where there is no place for any. */
static bool clear_work(void)
{
    DIR *d = opendir(BUILD_WORK);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            (void)!path_remove_tree(dirfd(d), e->d_name);
    if (d)
        closedir(d);
    source_release_all();
    (void)!path_remove_tree(AT_FDCWD, OLD_FILES);
    return d;
}

static void make_folders(void)
{
    static const char *const dirs[] = {
        "/nix/store", "/nix/var", "/nix/var/nix", "/nix/var/nix/gcroots",
        ROOTS,        BUILD_HOME, BUILD_WORK, /* the last one: where it is, the others are */
    };
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        mkdir(dirs[i], 0755);
}

/* With the disk mounted. checked: it may have lost something. Each file that is looked at costs milliseconds in a guest
 * that was just restored. */
static void prepare(const char *device, bool checked)
{
    uint64_t used, size;
    grow(device);
    if (!clear_work() || checked) {
        unlink(RESERVE); /* folders need room too */
        make_folders();
    }
    take_reserve();
    size = size_of_store(&used);
    set_limits(size);
    /* What collections could not free is fetched sources, which Nix keeps for ever. Nobody uses them now. */
    if (used > size / 10 * 9)
        (void)!path_remove_tree(AT_FDCWD, CACHES);
}

void nix_store_mount(const struct msg_configure *m, struct msg_configured *ret)
{
    char device[80];
    if (!find_disk(device)) {
        snprintf(ret->problem, sizeof(ret->problem), "the kernel command line names no store (mvm.store)");
        return;
    }
    if (access(device, F_OK) < 0) {
        snprintf(ret->problem, sizeof(ret->problem), "the store's disk is not there");
        return;
    }
    int r = check_and_mount(device, m->store_check, ret);
    bool checked = m->store_check || strcmp(ret->store, STORE_OK) != 0;
    if (r == 0) {
        /* After an unclean end a kept file may have its size and not its content: nothing was synced. */
        if (m->store_check)
            (void)!path_remove_tree(AT_FDCWD, BUILD_FILES);
        prepare(device, checked);
        if (checked)
            r = check_database();
    }
    if (r == 0)
        return;
    (void)!umount2("/nix", 0);
    strcpy(ret->store, is_damage(r) ? STORE_BROKEN : "");
    snprintf(ret->problem, sizeof(ret->problem), "the store's disk %s: %s",
             is_damage(r) ? "is damaged" : "cannot be used", strerror(-r));
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
    snprintf(link, sizeof(link), ROOTS "/%s", path + sizeof(STORE) - 1);
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
    DIR *d = opendir(ROOTS);
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
    DIR *d = v ? opendir(ROOTS) : NULL;
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
    int code = run(argv, NULL);
    return code > 0 ? -EIO : code;
}

static int collect_rounds(uint64_t target)
{
    file_cache_sweep(FILE_CACHE_MIN_AGE_S);
    uint64_t used;
    for (unsigned round = 0;; round++) {
        size_of_store(&used);
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
    unlink(RESERVE);
    int r = collect_rounds(target);
    take_reserve();
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
    size_of_store(&before);
    /* How much it needs nobody knows: all that nothing running uses goes. */
    if (collect_to(0) < 0)
        return false;
    size_of_store(&after);
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
    int code = run(argv, &dead);
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
    size_of_store(&before);
    if (m->above && before > m->above) {
        r = collect_to(m->target);
        trim();
    }
    reply.size = size_of_store(&reply.used);
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

/* ---- Standing still ---- */

static void on_term(int sig)
{
}

/*
 * The host copies the disk meanwhile: frozen, an ext4 is as it would be unmounted. The agent ends this process with
 * SIGTERM where the host goes away, which only interrupts the waiting; and nobody's build waits for longer than
 * FREEZE_MAX_S.
 */
void freeze_serve(int sock)
{
    struct sigaction sa = {.sa_handler = on_term};
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGALRM, &sa, NULL);
    CLEAN_FD int fd = open("/nix", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, FIFREEZE, 0) < 0)
        worker_exit(sock, 1, strerror(errno));
    alarm(FREEZE_MAX_S);
    const struct msg_exit frozen = {0};
    CLEAN_BUF struct buf b = BUF_INIT(1024);
    struct pollfd p = {.fd = sock, .events = POLLIN};
    if (msg_exit_encode(&b, &frozen) == 0 && worker_send(sock, CHAN_MSG, b.data, b.len) == 0)
        (void)!poll(&p, 1, FREEZE_MAX_S * 1000); /* readable: the stream has ended */
    ioctl(fd, FITHAW, 0);
    _exit(0);
}
