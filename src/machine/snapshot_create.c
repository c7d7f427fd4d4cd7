/* The part of snapshot.h that makes snapshots, to be kept or to be continued at once. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "image/manifest.h"
#include "machine/client.h"
#include "machine/pinned_image.h"
#include "machine/snapshot_dir.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SAVE_WAIT_MS 120000 /* the supervisor has bounds of its own */
#define LEAST_FREE   (4u << 20)

struct stage {
    int root, fd;
    char name[64];
    struct runfile run;
};

static void stage_done(struct stage *s)
{
    if (s->fd >= 0 && s->root >= 0)
        (void)!path_remove_tree(s->root, s->name);
    fd_closep(&s->fd);
    fd_closep(&s->root);
    free(s);
}

static inline void stage_donep(struct stage **s)
{
    if (*s)
        stage_done(*s);
}
#define CLEAN_STAGE CLEANUP(stage_donep)

static int stage_open(struct stage *s, struct mvm_error *err)
{
    snprintf(s->name, sizeof(s->name), SNAPSHOT_DIR_STAGE "%d", getpid());
    int r = path_remove_tree(s->root, s->name);
    if (r == 0 && mkdirat(s->root, s->name, 0700) < 0)
        r = -errno;
    if (r == 0)
        s->fd = openat(s->root, s->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (r == 0 && (s->fd < 0 || flock(s->fd, LOCK_EX | LOCK_NB) < 0))
        r = -errno;
    CLEAN_FD int state = r == 0 ? openat(s->fd, SNAPSHOT_DIR_STATE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (r == 0 && state < 0)
        r = -errno;
    return r < 0 ? mvm_error_errno(err, r, "cannot make the snapshot's folder") : 0;
}

/* The VM's folder says what it runs; the folder and the image it needs are there afterwards. */
static int stage_prepare(struct stage *s, struct home *h, const char *vm, struct snapshot *u, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    CLEAN_FD int dir = vmdir_open(h, vm, err);
    if (dir < 0)
        return dir;
    int r = runfile_load(&s->run, dir, err);
    if (r == 0 && vm_role_parse(s->run.role) == VM_ROLE_BUILDER) {
        r = mvm_error_set(err, -EPERM, "vm '%s' is a builder: its disk is no part of a snapshot", vm);
        mvm_error_hint(err, "snapshots are of VMs that up and run start");
    }
    if (r == 0 && lock_is_held(dir, VMDIR_LOCK) != 1)
        r = mvm_error_set(err, -ENOENT, "vm '%s' is not running", vm);
    if (r == 0 && !s->run.network[0]) {
        r = mvm_error_set(err, -ENOTSUP,
                          "vm '%s' was started before VMs had a network process: the VMM's own network is in its state",
                          vm);
        mvm_error_hint(err, "what is started from now on can be saved: mvmctl down %s, then mvmctl up", vm);
    }
    if (r < 0)
        return r;
    s->root = snapshot_dir_open(h, err);
    r = s->root < 0 ? s->root : snapshot_dir_lock(&lock, s->root, err);
    if (r < 0)
        return r;
    snapshot_dir_tidy(h, s->root);
    r = stage_open(s, err);
    if (r == 0)
        r = pinned_image_keep(s->root, &s->run, u->image_key, err);
    if (r == 0)
        r = path_write_file(s->fd, SNAPSHOT_DIR_NEEDS, u->image_key, strlen(u->image_key), 0600, false, err);
    pinned_image_path(h->state, u->image_key, u->image_path, sizeof(u->image_path));
    return r;
}

static void explain_full(const struct stage *s, struct mvm_error *err)
{
    struct statvfs fs;
    if (fstatvfs(s->fd, &fs) < 0 || (uint64_t)fs.f_bavail * fs.f_frsize >= LEAST_FREE)
        return;
    mvm_error_set(err, -ENOSPC, "there is no room on the disk for the snapshot");
    mvm_error_hint(err, "it takes up to the VM's memory; mvmctl snapshot rm makes room");
}

/* Has the supervisor write the VM into the stage. */
static int stage_save(struct stage *s, struct home *h, const char *vm, struct snapshot *u, struct msg_saved *saved,
                      struct mvm_error *err)
{
    CLEAN_CLIENT struct client *c = NULL;
    struct msg_save request = {0};
    snprintf(request.folder, sizeof(request.folder), "%s", s->name);
    int r = client_connect(h, vm, &c, err);
    if (r == 0)
        r = client_save(c, &request, saved, clock_deadline(SAVE_WAIT_MS), err);
    if (r == 0 && saved->problem[0]) {
        r = mvm_error_set(err, -EIO, "vm '%s' is not saved: %s", vm, saved->problem);
        machine_hint_paused(h, vm, err);
        if (saved->other_folder)
            mvm_error_hint(err,
                           "put back %s/snapshots as it was (umount?), or start the vm anew: it saves to this one then",
                           h->state);
        explain_full(s, err);
    }
    if (r < 0)
        return r;
    snprintf(u->vm, sizeof(u->vm), "%s", vm);
    snprintf(u->image, sizeof(u->image), "%s", s->run.image);
    snprintf(u->backend, sizeof(u->backend), "%s", s->run.backend);
    snprintf(u->network, sizeof(u->network), "%s", s->run.network);
    snprintf(u->network_limits, sizeof(u->network_limits), "%s", s->run.network_limits);
    snprintf(u->member_of, sizeof(u->member_of), "%s", s->run.member_of);
    snprintf(u->accel, sizeof(u->accel), "%s", s->run.accel.name);
    u->memory_mib = s->run.memory_mib;
    u->vcpus = s->run.vcpus;
    u->stopped_ns = saved->stopped_ns;
    u->created_at = clock_wall();
    u->bytes = snapshot_dir_allocated(s->fd, SNAPSHOT_DIR_STATE);
    return 0;
}

static int take(struct home *h, const char *vm, struct stage **ret, struct snapshot *u, struct msg_saved *saved,
                struct mvm_error *err)
{
    struct stage *s = calloc(1, sizeof(*s));
    if (!s)
        return mvm_error_errno(err, -ENOMEM, "snapshot");
    *ret = s;
    s->root = s->fd = -1;
    int r = stage_prepare(s, h, vm, u, err);
    return r < 0 ? r : stage_save(s, h, vm, u, saved, err);
}

/* Of one file, where it is there. */
static int put_file(int dirfd, const char *name, struct statindex *index, json_object *o, struct mvm_error *err)
{
    struct snapshot_file f;
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return mvm_error_is_absent(-errno) ? 0 : mvm_error_errno(err, -errno, "cannot read the image's %s", name);
    int r = snapshot_meta_measure(index, name, fd, &f, err);
    if (r == 0)
        snapshot_meta_put_file(o, name, &f);
    return r;
}

/* Sizes and digests of the state, which is synced, and of the image's files. */
static int put_files(const struct stage *s, struct home *h, const struct snapshot *u, json_object *o,
                     struct mvm_error *err)
{
    struct statindex *index = snapshot_dir_index(h, u);
    json_object *artifacts = json_object_new_object();
    json_add(o, SNAPSHOT_DIR_FILES, artifacts);
    CLEAN_FD int image = pinned_image_open(s->root, u->image_key);
    CLEAN_FD int state = openat(s->fd, SNAPSHOT_DIR_STATE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int r = state < 0 ? -errno : MIN_OF(image, 0);
    if (r < 0)
        mvm_error_errno(err, r, "cannot read the snapshot's files");
    if (r == 0 && (fchmod(state, 0400) < 0 || fsync(state) < 0))
        r = mvm_error_errno(err, -errno, "cannot keep the snapshot");
    if (r == 0)
        (void)!os_enable_verity(state); /* where it can be had; refused while a VMM has it open for writing */
    if (r == 0)
        r = put_file(s->fd, SNAPSHOT_DIR_STATE, index, o, err);
    for (int a = 0; r == 0 && a < ARTIFACT_COUNT; a++)
        r = put_file(image, artifact_name((enum artifact)a), index, artifacts, err);
    if (index)
        statindex_save(index);
    statindex_free(index);
    return r;
}

static int stage_seal(struct stage *s, struct home *h, const struct snapshot *u, const struct msg_saved *saved,
                      struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    struct snapshot_meta m;
    /* What will be run; the cache may have lost the image meanwhile. */
    snprintf(s->run.image_path, sizeof(s->run.image_path), "%s", u->image_path);
    int r = snapshot_dir_present(u, &s->run, &m, err);
    if (r < 0)
        return r;
    m.hello.protocol = saved->protocol;
    snprintf(m.hello.role, sizeof(m.hello.role), "%s", s->run.role);
    snprintf(m.hello.kernel, sizeof(m.hello.kernel), "%s", saved->kernel);
    json_add_int(o, "schema_version", SNAPSHOT_DIR_SCHEMA);
    snapshot_meta_put(o, &m);
    snapshot_dir_put_facts(o, u);
    r = put_files(s, h, u, o, err);
    return r < 0 ? r : json_save_sealed(s->fd, SNAPSHOT_DIR_META, o, 0400, true, err);
}

/* Under the lock: from then on it is there. */
static int stage_promote(struct stage *s, const struct snapshot *u, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    int r = snapshot_dir_lock(&lock, s->root, err);
    if (r < 0)
        return r;
    CLEAN_FD int folder = path_open_dir(s->root, u->vm, err);
    if (folder < 0)
        return folder;
    unlinkat(s->fd, SNAPSHOT_DIR_NEEDS, 0);
    if (fsync(s->fd) < 0 || renameat(s->root, s->name, folder, u->tag) < 0)
        return mvm_error_errno(err, -errno, "cannot keep the snapshot");
    fd_closep(&s->fd);
    if (fsync(folder) < 0 || fsync(s->root) < 0)
        return mvm_error_errno(err, -errno, "cannot keep the snapshot");
    return 0;
}

static int choose_tag(struct home *h, const char *vm, const char *tag, struct snapshot *u, struct mvm_error *err)
{
    CLEAN_FD int root = snapshot_dir_open(h, err);
    if (root < 0)
        return root;
    char now[32];
    struct tm tm;
    time_t t = (time_t)(clock_wall() / NSEC_PER_SEC);
    strftime(now, sizeof(now), "%Y%m%d-%H%M%S", gmtime_r(&t, &tm));
    for (unsigned i = 1; i < 1000; i++) {
        if (i == 1)
            snprintf(u->tag, sizeof(u->tag), "%s", tag ? tag : now);
        else
            snprintf(u->tag, sizeof(u->tag), "%s-%u", now, i);
        CLEAN_FD int dir = snapshot_dir_open_one(root, vm, u->tag);
        if (dir < 0)
            return mvm_error_is_absent(dir) ? 0 : mvm_error_errno(err, dir, "cannot look for %s:%s", vm, u->tag);
        if (tag)
            break;
    }
    mvm_error_set(err, -EEXIST, "there is a snapshot %s:%s already", vm, u->tag);
    mvm_error_hint(err, "choose another tag, or remove it: mvmctl snapshot rm %s %s", vm, u->tag);
    return -EEXIST;
}

int snapshot_create(struct home *h, const char *vm, const char *tag, struct snapshot *ret, struct mvm_error *err)
{
    CLEAN_STAGE struct stage *s = NULL;
    struct msg_saved saved = {0};
    *ret = (struct snapshot){0};
    int r = vmdir_check_name(vm, err);
    if (r == 0 && tag)
        r = snapshot_check_tag(tag, err);
    if (r == 0)
        r = choose_tag(h, vm, tag, ret, err);
    if (r == 0)
        r = take(h, vm, &s, ret, &saved, err);
    if (r == 0)
        r = stage_seal(s, h, ret, &saved, err);
    if (r == 0)
        r = stage_promote(s, ret, err);
    return r;
}

/* Nobody else will read the state: it is neither hashed nor synced, and goes with the stage. */
int snapshot_fork(struct home *h, const char *vm, struct machine_config *c, struct progress *p,
                  struct machine_info *info, uint64_t *ret_stopped_ns, struct mvm_error *err)
{
    CLEAN_STAGE struct stage *s = NULL;
    CLEAN_FREE struct snapshot *u = calloc(1, sizeof(*u));
    struct msg_saved saved = {0};
    if (!u)
        return mvm_error_errno(err, -ENOMEM, "fork");
    int r = take(h, vm, &s, u, &saved, err);
    if (r < 0)
        return r;
    snprintf(u->state_path, sizeof(u->state_path), "%s/snapshots/%s/" SNAPSHOT_DIR_STATE, h->state, s->name);
    snapshot_fill(u, c);
    *ret_stopped_ns = saved.stopped_ns;
    return machine_start(h, c, p, info, err);
}
