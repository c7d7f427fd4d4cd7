#include "builder/session.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/ext4.h"
#include "image/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define BUILDER_FOLDER     "builder-vm"
#define STORE_LOCK         "nix-store.lock"
#define STORE_SIZE         (64ull << 30) /* sparse: the file grows with what is in it */
#define BUILDER_MEMORY_MIB 2048
#define BUILDER_TIMEOUT_MS 120000
#define STOP_GRACE_MS      20000

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for another build to finish (%s)", holder);
}

/* The store's disk: an empty ext4, written beside and renamed, so that a half-made one is never used. */
static int make_store(int dirfd, const char *name, struct mvm_error *err)
{
    char tmp[128];
    snprintf(tmp, sizeof(tmp), ".%s.new", name);
    CLEAN_FD int fd = openat(dirfd, tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot make the store's disk");
    static const struct ext4_opts opts = {
        .size = STORE_SIZE,
        .uuid = {0x6d, 0x76, 0x6d, 0x2d, 0x6e, 0x69, 0x78, 0x2d, 0x73, 0x74, 0x6f, 0x72, 0x65, 0x2d, 0x30, 0x31},
        .label = "mvm-nix-store",
        .journal = true,
    };
    int r = ext4_write(fd, NULL, &opts, err);
    if (r == 0 && (fsync(fd) < 0 || renameat(dirfd, tmp, dirfd, name) < 0))
        r = mvm_error_errno(err, -errno, "cannot make the store's disk");
    if (r < 0)
        unlinkat(dirfd, tmp, 0);
    return r;
}

static int ensure_store(struct home *h, char **ret_path, struct session *s, struct progress *p, struct mvm_error *err)
{
    CLEAN_FD int dir = path_open_dir(h->cache_fd, BUILDER_FOLDER, err);
    if (dir < 0)
        return dir;
    const struct lock_wait wait = {.waiting = say_waiting, .data = p};
    int r = lock_take(&s->store_lock, dir, STORE_LOCK, "mvmctl build", &wait, err);
    if (r < 0)
        return r;
    struct utsname u;
    uname(&u);
    char name[100];
    snprintf(name, sizeof(name), "nix-store-%.40s.img", u.machine);
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        progress_detail(p, "making the store's disk");
        r = make_store(dir, name, err);
    } else if (!S_ISREG(st.st_mode)) {
        r = mvm_error_set(err, -EINVAL, "the store's disk is not a regular file");
    }
    if (r < 0)
        return r;
    *ret_path = path_join(h->cache, BUILDER_FOLDER, name, NULL);
    return *ret_path ? 0 : mvm_error_errno(err, -ENOMEM, "store");
}

/* Half of the host's memory at most, because the builder's pages stay resident while it runs. */
static uint64_t default_memory(void)
{
    uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
    return MAX_OF(MIN_OF((uint64_t)BUILDER_MEMORY_MIB, host / 2), (uint64_t)512);
}

static unsigned default_vcpus(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 8 ? 8 : (unsigned)n;
}

static int start(struct session *s, struct home *h, const struct session_opts *o, struct progress *p,
                 struct mvm_error *err)
{
    progress_phase(p, "builder-start");
    CLEAN_FREE char *store = NULL;
    CLEAN_FREE char *rootfs = path_join(o->image, artifact_name(ARTIFACT_ROOTFS), NULL);
    int r = rootfs ? provided_flakes_load(&s->flakes, rootfs, err) : mvm_error_errno(err, -ENOMEM, "builder");
    if (r == 0)
        r = ensure_store(h, &store, s, p, err);
    if (r < 0)
        return r;
    snprintf(s->name, sizeof(s->name), "builder-%d", getpid());
    const struct machine_config c = {
        .name = s->name,
        .role = "builder",
        .image = o->image,
        .image_digest = "",
        .store_disk = store,
        .hostname = "builder",
        .memory_mib = o->memory_mib ? o->memory_mib : default_memory(),
        .vcpus = o->vcpus ? o->vcpus : default_vcpus(),
        .timeout_ms = BUILDER_TIMEOUT_MS,
        .transient = true,
    };
    struct machine_info info;
    r = machine_start(h, &c, p, &info, err);
    if (r < 0) {
        /* From the user's view the builder failed, whatever backend runs it. */
        err->phase = MVM_PHASE_BUILDER_BOOTSTRAP;
        return r;
    }
    s->tether = info.tether;
    return client_connect(h, s->name, &s->client, err);
}

int session_start(struct session *s, struct home *h, const struct session_opts *o, struct progress *p,
                  struct mvm_error *err)
{
    s->home = h;
    int r = start(s, h, o, p, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        mvm_error_hint(err, "mvmctl doctor checks what a build needs");
    }
    return r;
}

void session_done(struct session *s)
{
    client_free(TAKE_PTR(s->client));
    /* In an orderly way whatever came before: the store's disk is to be clean for the next builder. */
    if (s->tether >= 0)
        (void)!machine_stop(s->home, s->name, STOP_GRACE_MS, NULL);
    fd_closep(&s->tether);
    lock_done(&s->store_lock);
}
