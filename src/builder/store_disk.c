#include "builder/store_disk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/config.h"
#include "host/json.h"
#include "host/os.h"
#include "image/ext4.h"
#include "vmm/vmm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FOLDER      "builder-vm"
#define COPY_PREFIX ".nix-store-copy-"
#define FREEZE_MS   20000
#define LOCK_NAME   "nix-store.lock"
#define SCHEMA      2
#define MAX_STATE   4096
#define FULL_BELOW  (16ull << 20) /* bytes left on the host */

static void disk_name(char *out, size_t size)
{
    snprintf(out, size, "nix-store-%.40s.img", os_arch());
}

static void state_name(const char *disk, char *out, size_t size)
{
    snprintf(out, size, "%.*s.state", (int)(strlen(disk) - strlen(".img")), disk);
}

int store_disk_cap(uint64_t configured, uint64_t *ret, struct mvm_error *err)
{
    const char *text = getenv("MVM_STORE_CAP");
    uint64_t cap = configured ? configured : STORE_DISK_DEFAULT_CAP;
    if (text && *text && config_parse_size(text, &cap) < 0)
        cap = 0;
    if (cap < STORE_DISK_MIN_CAP) {
        mvm_error_set(err, -EINVAL, "a store's cap of '%.40s' is not a size of at least %lluM", text ? text : "",
                      STORE_DISK_MIN_CAP >> 20);
        mvm_error_phase(err, MVM_PHASE_CONFIG);
        mvm_error_hint(err, "MVM_STORE_CAP is a number of bytes, or one with K, M, G or T behind it");
        return -EINVAL;
    }
    *ret = cap & ~((1ull << 20) - 1);
    return 0;
}

/* ---- The state file ---- */

static const char *const uses[] = {
    [STORE_DISK_USED] = "in use", [STORE_DISK_LEFT] = "left", [STORE_DISK_CLOSED] = "clean"};

struct state {
    enum store_disk_use use;
    int64_t size, mtime_ns; /* the disk's when it was closed */
    int64_t reclaimable, surveyed_at, surveyed;
};

static int64_t mtime_ns(const struct stat *st)
{
    return st->st_mtim.tv_sec * (int64_t)NSEC_PER_SEC + st->st_mtim.tv_nsec;
}

/* A file that is absent or damaged says nothing: the disk is checked then. */
static struct state load_state(int dirfd, const char *disk)
{
    struct state s = {0};
    char name[80];
    CLEAN_JSON json_object *o = NULL;
    int64_t schema;
    const char *word;
    state_name(disk, name, sizeof(name));
    if (json_load_sealed(dirfd, name, MAX_STATE, &o, NULL) < 0 ||
        json_get_int(o, "schema_version", &schema, NULL) < 0 || schema != SCHEMA ||
        json_get_string(o, "state", &word, NULL) < 0 || json_get_int(o, "size", &s.size, NULL) < 0 ||
        json_get_int(o, "mtime_ns", &s.mtime_ns, NULL) < 0 ||
        json_get_int(o, "reclaimable", &s.reclaimable, NULL) < 0 ||
        json_get_int(o, "surveyed_at", &s.surveyed_at, NULL) < 0 || json_get_int(o, "surveyed", &s.surveyed, NULL) < 0)
        return (struct state){0};
    for (size_t i = 0; i < ARRAY_SIZE(uses); i++)
        if (strcmp(word, uses[i]) == 0)
            s.use = (enum store_disk_use)i;
    return s;
}

int store_disk_save(const struct store_disk *s, struct mvm_error *err)
{
    struct stat st = {0};
    if (s->copy)
        return 0;
    if (s->use == STORE_DISK_CLOSED && fstatat(s->dirfd, s->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return mvm_error_errno(err, -errno, "the store's disk");
    char name[80];
    state_name(s->name, name, sizeof(name));
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA);
    json_add_string(o, "state", uses[s->use]);
    json_add_int(o, "size", st.st_size);
    json_add_int(o, "mtime_ns", mtime_ns(&st));
    json_add_int(o, "reclaimable", (int64_t)s->reclaimable);
    json_add_int(o, "surveyed_at", (int64_t)s->surveyed_at);
    json_add_int(o, "surveyed", (int64_t)s->surveyed);
    return json_save_sealed(s->dirfd, name, o, 0600, true, err);
}

static bool is_clean(int fd, const struct stat *st, const struct state *state)
{
    bool as_left = state->use == STORE_DISK_LEFT ||
                   (state->use == STORE_DISK_CLOSED && state->size == st->st_size && state->mtime_ns == mtime_ns(st));
    return as_left && ext4_is_clean(fd) == 1;
}

/* ---- The disk ---- */

/* A descriptor, -ENOENT. */
static int open_disk(int dirfd, const char *name, int mode, struct stat *st, struct mvm_error *err)
{
    CLEAN_FD int fd = openat(dirfd, name, mode | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, st) < 0)
        return mvm_error_errno(err, -errno, "cannot open the store's disk");
    if (!S_ISREG(st->st_mode))
        return mvm_error_set(err, -EINVAL, "the store's disk is not a regular file");
    return TAKE_FD(fd);
}

/* Written beside and renamed, so that a half-made one is never used. */
static int make_disk(struct store_disk *s, struct mvm_error *err)
{
    char tmp[80];
    snprintf(tmp, sizeof(tmp), ".%s.new", s->name);
    CLEAN_FD int fd = openat(s->dirfd, tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot make the store's disk");
    const struct ext4_opts opts = {
        .size = s->cap,
        .uuid = {0x6d, 0x76, 0x6d, 0x2d, 0x6e, 0x69, 0x78, 0x2d, 0x73, 0x74, 0x6f, 0x72, 0x65, 0x2d, 0x30, 0x31},
        .label = "mvm-nix-store",
        .journal = true,
    };
    int r = ext4_write(fd, NULL, &opts, err);
    if (r == 0 && (fsync(fd) < 0 || renameat(s->dirfd, tmp, s->dirfd, s->name) < 0 || fsync(s->dirfd) < 0))
        r = mvm_error_errno(err, -errno, "cannot make the store's disk");
    if (r < 0)
        unlinkat(s->dirfd, tmp, 0);
    s->reclaimable = s->surveyed = 0; /* nothing is in it */
    s->surveyed_at = clock_wall();
    s->check = false;
    return r;
}

/* A VMM may outlive the mvmctl that held the lock by as long as its guest takes to power off. */
static int wait_for_vmm(int fd, struct progress *p, struct mvm_error *err)
{
    const struct vmm_ops *backend;
    int r = vmm_find(NULL, &backend, err);
    if (r < 0)
        return r;
    r = backend->lock_disk(fd, false);
    if (r == -EAGAIN || r == -EACCES) {
        progress_note(p, "waiting for a builder that is shutting down");
        r = backend->lock_disk(fd, true);
    }
    return r < 0 ? mvm_error_errno(err, r, "waiting for the store's disk") : 0;
}

/* The disk that is there, brought to its size. 1 where a new one has to be made. */
static int adopt_disk(struct store_disk *s, struct progress *p, struct mvm_error *err)
{
    struct stat st;
    CLEAN_FD int fd = open_disk(s->dirfd, s->name, O_RDWR, &st, err);
    if (fd == -ENOENT)
        return 1;
    if (fd < 0)
        return fd;
    int r = wait_for_vmm(fd, p, err);
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "the store's disk");
    if ((uint64_t)st.st_size > s->cap) {
        progress_note(p,
                      "the builder's store is larger than its cap of %llu MiB and is made anew; "
                      "built images are not affected",
                      (unsigned long long)s->cap >> 20);
        return 1;
    }
    const struct state state = load_state(s->dirfd, s->name);
    s->check = !is_clean(fd, &st, &state);
    s->reclaimable = (uint64_t)state.reclaimable;
    s->surveyed_at = (uint64_t)state.surveyed_at;
    s->surveyed = (uint64_t)state.surveyed;
    /* The guest lets its file system grow into what is added. */
    if ((uint64_t)st.st_size < s->cap && ftruncate(fd, (off_t)s->cap) < 0)
        return mvm_error_errno(err, -errno, "cannot enlarge the store's disk");
    return 0;
}

/* The fields that say which store it is. */
static int name_store(struct store_disk *s, struct home *h, uint64_t cap, struct mvm_error *err)
{
    s->home = h;
    s->cap = cap;
    disk_name(s->name, sizeof(s->name));
    s->dirfd = path_open_dir(h->cache_fd, FOLDER, err);
    if (s->dirfd < 0)
        return s->dirfd;
    s->path = path_join(h->cache, FOLDER, s->name, NULL);
    return s->path ? 0 : mvm_error_errno(err, -ENOMEM, "store");
}

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for another build to finish (%s)", holder);
}

int store_disk_open(struct store_disk *s, struct home *h, uint64_t cap, bool wait, struct progress *p,
                    struct mvm_error *err)
{
    const struct lock_wait w = {.waiting = say_waiting, .data = p};
    int r = name_store(s, h, cap, err);
    if (r == 0)
        r = lock_take(&s->lock, s->dirfd, LOCK_NAME, "mvmctl build", wait ? &w : NULL, err);
    if (r == 0)
        r = adopt_disk(s, p, err);
    if (r == 1) {
        progress_detail(p, "making the store's disk");
        r = make_disk(s, err);
    }
    return r < 0 ? r : store_disk_save(s, err);
}

int store_disk_attach(struct store_disk *s, struct home *h, uint64_t cap, struct mvm_error *err)
{
    int r = name_store(s, h, cap, err);
    if (r < 0)
        return r;
    const struct state state = load_state(s->dirfd, s->name);
    s->use = STORE_DISK_LEFT;
    s->reclaimable = (uint64_t)state.reclaimable;
    s->surveyed_at = (uint64_t)state.surveyed_at;
    s->surveyed = (uint64_t)state.surveyed;
    return 0;
}

int store_disk_leave(struct store_disk *s, struct mvm_error *err)
{
    s->use = STORE_DISK_LEFT;
    int r = store_disk_save(s, err);
    lock_done(&s->lock); /* the builder's supervisor has it */
    return r;
}

/* ---- Copies ---- */

/* Copies of processes that are gone: nobody holds a lock on them. */
static void sweep_copies(int dirfd)
{
    int dup_fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd >= 0 ? fdopendir(dup_fd) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, COPY_PREFIX, sizeof(COPY_PREFIX) - 1) != 0)
            continue;
        CLEAN_FD int fd = openat(dirfd, e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd, e->d_name, 0);
    }
    if (d)
        closedir(d);
}

void store_disk_sweep(struct home *h)
{
    CLEAN_FD int dirfd = openat(h->cache_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dirfd >= 0)
        sweep_copies(dirfd);
}

/* Has the builder's file system stand still, copies the disk, lets it go on. */
static int copy_disk(int from, int to, struct client *c, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(64);
    uint32_t stream = 0;
    int r = msg_begin(&b, MSG_FREEZE);
    if (r == 0)
        r = client_open(c, &b, &stream, err);
    if (r == 0)
        r = client_expect_exit(c, stream, clock_deadline(FREEZE_MS), err);
    if (r < 0)
        return mvm_error_wrap(err, "the builder does not stand still");
    r = fd_copy_file(from, to);
    client_reset(c, stream, "copied");
    return r < 0 ? mvm_error_errno(err, r, "cannot copy the store's disk") : 0;
}

int store_disk_open_copy(struct store_disk *s, struct home *h, uint64_t cap, struct client *c, struct progress *p,
                         struct mvm_error *err)
{
    struct stat st;
    int r = name_store(s, h, cap, err);
    if (r < 0)
        return r;
    sweep_copies(s->dirfd);
    CLEAN_FD int from = open_disk(s->dirfd, s->name, O_RDONLY, &st, err);
    if (from < 0)
        return from;
    snprintf(s->name, sizeof(s->name), COPY_PREFIX "%d.img", getpid());
    free(s->path);
    s->path = path_join(h->cache, FOLDER, s->name, NULL);
    s->lock.fd = openat(s->dirfd, s->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock.fd < 0 || !s->path || flock(s->lock.fd, LOCK_EX | LOCK_NB) < 0)
        return mvm_error_errno(err, s->path ? -errno : -ENOMEM, "cannot copy the store's disk");
    s->copy = true;
    progress_detail(p, "copying the store");
    return copy_disk(from, s->lock.fd, c, err);
}

/* ---- Its end ---- */

int store_disk_rebuild(struct store_disk *s, struct progress *p, struct mvm_error *err)
{
    progress_note(p, "the builder's store was damaged beyond repair and is made anew; built images are not affected");
    int r = make_disk(s, err);
    return r < 0 ? r : store_disk_save(s, err);
}

void store_disk_close(struct store_disk *s)
{
    struct stat st;
    CLEAN_FD int fd = s->lock.fd >= 0 && !s->copy ? open_disk(s->dirfd, s->name, O_RDWR, &st, NULL) : -1;
    if (fd >= 0 && ext4_is_clean(fd) == 1) {
        s->use = STORE_DISK_CLOSED;
        (void)!store_disk_save(s, NULL); /* failing that, the next builder checks what needs no check */
    }
    if (s->copy)
        unlinkat(s->dirfd, s->name, 0);
    s->copy = false;
    free(s->path);
    s->path = NULL;
    fd_closep(&s->dirfd);
    lock_done(&s->lock);
}

/* ---- From outside ---- */

bool store_disk_host_full(int fd)
{
    struct statvfs v;
    return fstatvfs(fd, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < FULL_BELOW;
}

void store_disk_hint_host(int fd, struct mvm_error *err)
{
    if (store_disk_host_full(fd))
        mvm_error_hint(err, "the host's disk is full: make room on the file system of MVM_CACHE_DIR");
}

int store_disk_inspect(struct home *h, uint64_t cap, struct store_disk_info *ret, struct mvm_error *err)
{
    char name[64];
    struct stat st;
    disk_name(name, sizeof(name));
    *ret = (struct store_disk_info){.cap = cap};
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, err);
    if (dir < 0)
        return dir;
    CLEAN_FD int fd = open_disk(dir, name, O_RDONLY, &st, err);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return fd;
    const struct state state = load_state(dir, name);
    ret->exists = true;
    ret->in_use = lock_is_held(dir, LOCK_NAME) == 1;
    ret->clean = is_clean(fd, &st, &state);
    ret->allocated = (uint64_t)st.st_blocks * 512;
    ret->size = (uint64_t)st.st_size;
    ret->reclaimable = (uint64_t)state.reclaimable;
    ret->surveyed_at = (uint64_t)state.surveyed_at;
    return 0;
}

int store_disk_remove(struct home *h, struct mvm_error *err)
{
    char name[64], state[80];
    disk_name(name, sizeof(name));
    state_name(name, state, sizeof(state));
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    int r = dir < 0 ? dir : lock_take(&lock, dir, LOCK_NAME, "removing the builder's store", NULL, err);
    if (r < 0)
        return r;
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return mvm_error_errno(err, -errno, "cannot remove the store's disk");
    unlinkat(dir, state, 0);
    return 0;
}
