#include "machine/usersnapshot.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "cache/lock.h"
#include "cache/statindex.h"
#include "image/manifest.h"
#include "machine/client.h"
#include "machine/keptimage.h"
#include "machine/launch.h"
#include "machine/snapmeta.h"
#include "machine/vmdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SCHEMA       1
#define META         "meta.json"
#define STATE        "state"
#define ROOTFS       "rootfs"
#define IMAGE        "image" /* of one in the making: the key of the image it needs */
#define LOCK         ".lock"
#define STAGE_PREFIX ".new-"
#define LOCK_WAIT_MS 30000
#define SAVE_WAIT_MS 120000 /* the supervisor has bounds of its own */
#define LEAST_FREE   (4u << 20)
#define DAMAGED      "the snapshot's description is damaged or of another version"

/* ---- Names ---- */

static int bad(struct mvm_error *err, const char *hint)
{
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "%s", hint);
    return -EINVAL;
}

int usersnapshot_check_tag(const char *tag, struct mvm_error *err)
{
    if (path_is_plain_name(tag, USERSNAPSHOT_MAX_TAG))
        return 0;
    mvm_error_set(err, -EINVAL, "tag '%.70s': not a plain name of at most %d bytes", tag, USERSNAPSHOT_MAX_TAG);
    return bad(err, "use letters, digits, '.', '_' and '-', beginning with a letter or digit");
}

int usersnapshot_parse(const char *word, char vm[static MACHINE_MAX_NAME + 1],
                       char tag[static USERSNAPSHOT_MAX_TAG + 1], struct mvm_error *err)
{
    const char *colon = strchr(word, ':');
    size_t n = colon ? (size_t)(colon - word) : strlen(word);
    if (n > MACHINE_MAX_NAME)
        return machine_check_name(word, err); /* which says so */
    memcpy(vm, word, n);
    vm[n] = '\0';
    tag[0] = '\0';
    int r = machine_check_name(vm, err);
    if (r == 0 && colon)
        r = usersnapshot_check_tag(colon + 1, err);
    if (r == 0 && colon)
        snprintf(tag, USERSNAPSHOT_MAX_TAG + 1, "%s", colon + 1);
    return r;
}

static int open_root(struct home *h, struct mvm_error *err)
{
    return path_open_dir(h->state_fd, "snapshots", err);
}

static int take_lock(struct lock *l, int root, struct mvm_error *err)
{
    const struct lock_wait wait = {.deadline = clock_deadline(LOCK_WAIT_MS)};
    return lock_take(l, root, LOCK, "snapshots", &wait, err);
}

/* ---- meta.json ---- */

static const struct {
    const char *key;
    size_t offset, size; /* size 0: a uint64_t */
} facts[] = {
#define TEXT(member)                                                                                                   \
    {                                                                                                                  \
        "vm_" #member, offsetof(struct usersnapshot, member), sizeof(((struct usersnapshot *)0)->member)               \
    }
#define NUMBER(member)                                                                                                 \
    {                                                                                                                  \
        "vm_" #member, offsetof(struct usersnapshot, member), 0                                                        \
    }
    TEXT(image),        TEXT(image_key), TEXT(backend),      TEXT(accel),
    NUMBER(memory_mib), NUMBER(vcpus),   NUMBER(created_at), NUMBER(stopped_ns),
#undef TEXT
#undef NUMBER
};

static void put_facts(json_object *o, const struct usersnapshot *u)
{
    for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
        const char *at = (const char *)u + facts[i].offset;
        uint64_t n;
        memcpy(&n, at, sizeof(n));
        if (facts[i].size)
            json_add_string(o, facts[i].key, at);
        else
            json_add_int(o, facts[i].key, (int64_t)n);
    }
}

static int get_facts(json_object *o, struct usersnapshot *u)
{
    int64_t n;
    const char *text;
    if (json_get_int(o, "schema_version", &n, NULL) < 0 || n != SCHEMA)
        return -ESTALE;
    for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
        char *at = (char *)u + facts[i].offset;
        if (facts[i].size) {
            if (json_get_string(o, facts[i].key, &text, NULL) < 0 ||
                (size_t)snprintf(at, facts[i].size, "%s", text) >= facts[i].size)
                return -ESTALE;
        } else {
            if (json_get_int(o, facts[i].key, &n, NULL) < 0 || n < 0)
                return -ESTALE;
            memcpy(at, &n, sizeof(n));
        }
    }
    return path_is_plain_name(u->image_key, 64) ? 0 : -ESTALE;
}

/* What is at hand for it, or what it is saved with. */
static int present(const struct usersnapshot *u, const struct runfile *run, struct snapmeta *ret, struct mvm_error *err)
{
    const struct vmm_ops *backend;
    *ret = (struct snapmeta){.tsc_khz = run->accel.tsc_khz};
    int r = vmm_find(u->backend, &backend, err);
    return r < 0 ? r : launch_identity(backend, run, &ret->id, err);
}

static uint64_t allocated(int dirfd, const char *name)
{
    struct stat st;
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* Facts of the snapshot in a folder; vm and tag are set. */
static void load(struct usersnapshot *u, int dir, json_object **ret_meta)
{
    CLEAN_JSON json_object *o = NULL;
    u->bytes = allocated(dir, STATE);
    u->damaged = json_load(dir, META, SNAPMETA_MAX, &o, NULL) < 0 || get_facts(o, u) < 0;
    if (ret_meta)
        *ret_meta = TAKE_PTR(o);
}

static int open_dir(int root, const char *vm, const char *tag)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", vm, tag);
    return path_open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0);
}

/* ---- Listing ---- */

struct list {
    struct usersnapshot *v;
    size_t n;
};

static int list_add(struct list *l, int root, const char *vm, const char *tag)
{
    CLEAN_FD int dir = open_dir(root, vm, tag);
    if (dir < 0)
        return 0; /* it went meanwhile */
    struct usersnapshot *more = reallocarray(l->v, l->n + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    l->v = more;
    struct usersnapshot *u = &l->v[l->n++];
    *u = (struct usersnapshot){0};
    snprintf(u->vm, sizeof(u->vm), "%s", vm);
    snprintf(u->tag, sizeof(u->tag), "%s", tag);
    load(u, dir, NULL);
    return 0;
}

/* Calls each for every plain name in a folder. */
static int each_name(int dirfd, const char *folder, int (*each)(void *data, const char *name), void *data)
{
    int fd = openat(dirfd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    int r = 0;
    if (!d)
        return 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));)
        if (path_is_plain_name(e->d_name, MAX_OF(MACHINE_MAX_NAME, USERSNAPSHOT_MAX_TAG)))
            r = each(data, e->d_name);
    closedir(d);
    return r;
}

struct walk {
    struct list *list;
    int root;
    const char *vm;
};

static int on_tag(void *data, const char *tag)
{
    struct walk *w = data;
    return list_add(w->list, w->root, w->vm, tag);
}

static int on_vm(void *data, const char *vm)
{
    struct walk *w = data;
    w->vm = vm;
    return each_name(w->root, vm, on_tag, w);
}

static int by_name_and_age(const void *a, const void *b)
{
    const struct usersnapshot *x = a, *y = b;
    int r = strcmp(x->vm, y->vm);
    if (r == 0)
        r = x->created_at < y->created_at ? -1 : x->created_at > y->created_at;
    return r ? r : strcmp(x->tag, y->tag);
}

static int list_all(int root, const char *vm, struct list *ret, struct mvm_error *err)
{
    struct walk w = {.list = ret, .root = root};
    int r = vm ? on_vm(&w, vm) : each_name(root, ".", on_vm, &w);
    if (ret->n)
        qsort(ret->v, ret->n, sizeof(*ret->v), by_name_and_age);
    return r < 0 ? mvm_error_errno(err, r, "cannot list snapshots") : 0;
}

int usersnapshot_list(struct home *h, const char *vm, struct usersnapshot **ret, size_t *ret_n, struct mvm_error *err)
{
    struct list l = {0};
    CLEAN_FD int root = open_root(h, err);
    int r = root < 0 ? root : list_all(root, vm, &l, err);
    if (r < 0) {
        free(l.v);
        return r;
    }
    *ret = l.v;
    *ret_n = l.n;
    return 0;
}

/* ---- Tidying: under the lock ---- */

struct use {
    struct home *h;
    int root;
    struct list snapshots;
    const char *key;
    bool found;
};

/* A VM that continues from a kept image, running or not. */
static int on_machine(void *data, const char *name)
{
    struct use *u = data;
    CLEAN_FREE struct runfile *run = calloc(1, sizeof(*run));
    CLEAN_FD int dir = machine_open_dir(u->h, name, NULL);
    const char *base;
    if (run && dir >= 0 && runfile_load(run, dir, NULL) == 0 && run->state[0] &&
        (base = strrchr(run->image_path, '/')) && strcmp(base + 1, u->key) == 0)
        u->found = true;
    return 0;
}

/* True where somebody still makes it; one that is dead is removed. */
static bool stage_lives(int root, const char *name)
{
    CLEAN_FD int fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return fd >= 0;
    (void)!path_remove_tree(root, name);
    return false;
}

static bool stages_need(int root, const char *key)
{
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    bool needed = false;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, STAGE_PREFIX, strlen(STAGE_PREFIX)) != 0 || !stage_lives(root, e->d_name))
            continue;
        CLEAN_FD int stage = openat(root, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        CLEAN_BUF struct buf text = BUF_INIT(256);
        if (stage >= 0 && path_read_file(stage, IMAGE, &text, NULL) == 0 && strcmp(buf_cstr(&text), key) == 0)
            needed = true;
    }
    if (d)
        closedir(d);
    return needed;
}

static bool image_used(void *data, const char *key)
{
    struct use *u = data;
    u->key = key;
    u->found = stages_need(u->root, key);
    for (size_t i = 0; i < u->snapshots.n; i++) {
        const struct usersnapshot *s = &u->snapshots.v[i];
        u->found |= s->damaged || strcmp(s->image_key, key) == 0; /* of a damaged one nobody knows */
    }
    if (!u->found)
        (void)!each_name(u->h->state_fd, "vms", on_machine, u);
    return u->found;
}

static void tidy(struct home *h, int root)
{
    struct use u = {.h = h, .root = root};
    (void)stages_need(root, ""); /* removes those of dead makers */
    if (list_all(root, NULL, &u.snapshots, NULL) == 0)
        keptimage_sweep(root, image_used, &u);
    free(u.snapshots.v);
}

/* ---- Making ---- */

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
    snprintf(s->name, sizeof(s->name), STAGE_PREFIX "%d", getpid());
    int r = path_remove_tree(s->root, s->name);
    if (r == 0 && mkdirat(s->root, s->name, 0700) < 0)
        r = -errno;
    if (r == 0)
        s->fd = openat(s->root, s->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (r == 0 && (s->fd < 0 || flock(s->fd, LOCK_EX | LOCK_NB) < 0))
        r = -errno;
    CLEAN_FD int state = r == 0 ? openat(s->fd, STATE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (r == 0 && state < 0)
        r = -errno;
    return r < 0 ? mvm_error_errno(err, r, "cannot make the snapshot's folder") : 0;
}

/* The VM's folder says what it runs; the folder and the image it needs are there afterwards. */
static int stage_prepare(struct stage *s, struct home *h, const char *vm, struct usersnapshot *u, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    CLEAN_FD int dir = machine_open_dir(h, vm, err);
    if (dir < 0)
        return dir;
    int r = runfile_load(&s->run, dir, err);
    if (r == 0 && strcmp(s->run.role, "builder") == 0) {
        r = mvm_error_set(err, -EPERM, "vm '%s' is a builder: its disk is no part of a snapshot", vm);
        mvm_error_hint(err, "snapshots are of VMs that up and run start");
    }
    if (r == 0 && lock_is_held(dir, VMDIR_LOCK) != 1)
        r = mvm_error_set(err, -ENOENT, "vm '%s' is not running", vm);
    if (r < 0)
        return r;
    s->root = open_root(h, err);
    r = s->root < 0 ? s->root : take_lock(&lock, s->root, err);
    if (r < 0)
        return r;
    tidy(h, s->root);
    r = stage_open(s, err);
    if (r == 0)
        r = keptimage_keep(s->root, &s->run, u->image_key, err);
    if (r == 0)
        r = path_write_file(s->fd, IMAGE, u->image_key, strlen(u->image_key), 0600, false, err);
    keptimage_path(h->state, u->image_key, u->image_path, sizeof(u->image_path));
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
static int stage_save(struct stage *s, struct home *h, const char *vm, struct usersnapshot *u, struct msg_saved *saved,
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
        if (strcmp(saved->problem, "it is paused") == 0)
            mvm_error_hint(err, "mvmctl resume %s lets it go on", vm);
        explain_full(s, err);
    }
    if (r < 0)
        return r;
    snprintf(u->vm, sizeof(u->vm), "%s", vm);
    snprintf(u->image, sizeof(u->image), "%s", s->run.image);
    snprintf(u->backend, sizeof(u->backend), "%s", s->run.backend);
    snprintf(u->accel, sizeof(u->accel), "%s", s->run.accel.name);
    u->memory_mib = s->run.memory_mib;
    u->vcpus = s->run.vcpus;
    u->stopped_ns = saved->stopped_ns;
    u->created_at = clock_wall();
    u->bytes = allocated(s->fd, STATE);
    return 0;
}

static int take(struct home *h, const char *vm, struct stage **ret, struct usersnapshot *u, struct msg_saved *saved,
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

static struct statindex *open_index(struct home *h, const struct usersnapshot *u)
{
    char key[160];
    snprintf(key, sizeof(key), "snapshot %s:%s of the user", u->vm, u->tag);
    return statindex_load(h->cache_fd, key);
}

/* Sizes and digests of the state and the root file system, synced. */
static int put_files(const struct stage *s, struct home *h, const struct usersnapshot *u, json_object *o,
                     struct mvm_error *err)
{
    struct snapfile f;
    struct statindex *index = open_index(h, u);
    CLEAN_FD int image = keptimage_open(s->root, u->image_key);
    CLEAN_FD int rootfs = image < 0 ? -1 : openat(image, artifact_name(ARTIFACT_ROOTFS), O_RDONLY | O_CLOEXEC);
    CLEAN_FD int state = openat(s->fd, STATE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int r = rootfs < 0 || state < 0 ? mvm_error_errno(err, -errno, "cannot read the snapshot's files") : 0;
    if (r == 0 && (fchmod(state, 0400) < 0 || fsync(state) < 0))
        r = mvm_error_errno(err, -errno, "cannot keep the snapshot");
    if (r == 0)
        r = snapmeta_measure(index, STATE, state, &f, err);
    if (r == 0) {
        snapmeta_put_file(o, STATE, &f);
        r = snapmeta_measure(index, ROOTFS, rootfs, &f, err);
    }
    if (r == 0)
        snapmeta_put_file(o, ROOTFS, &f);
    if (index)
        statindex_save(index);
    statindex_free(index);
    return r;
}

static int stage_seal(struct stage *s, struct home *h, const struct usersnapshot *u, const struct msg_saved *saved,
                      struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    struct snapmeta m;
    /* What will be run; the cache may have lost the image meanwhile. */
    snprintf(s->run.image_path, sizeof(s->run.image_path), "%s", u->image_path);
    int r = present(u, &s->run, &m, err);
    if (r < 0)
        return r;
    m.hello.protocol = saved->protocol;
    snprintf(m.hello.role, sizeof(m.hello.role), "%s", s->run.role);
    snprintf(m.hello.kernel, sizeof(m.hello.kernel), "%s", saved->kernel);
    json_add_int(o, "schema_version", SCHEMA);
    snapmeta_put(o, &m);
    put_facts(o, u);
    r = put_files(s, h, u, o, err);
    return r < 0 ? r : json_save(s->fd, META, o, 0400, true, err);
}

/* Under the lock: from then on it is there. */
static int stage_promote(struct stage *s, const struct usersnapshot *u, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    int r = take_lock(&lock, s->root, err);
    if (r < 0)
        return r;
    CLEAN_FD int folder = path_open_dir(s->root, u->vm, err);
    if (folder < 0)
        return folder;
    unlinkat(s->fd, IMAGE, 0);
    if (fsync(s->fd) < 0 || renameat(s->root, s->name, folder, u->tag) < 0)
        return mvm_error_errno(err, -errno, "cannot keep the snapshot");
    fd_closep(&s->fd);
    if (fsync(folder) < 0 || fsync(s->root) < 0)
        return mvm_error_errno(err, -errno, "cannot keep the snapshot");
    return 0;
}

static int choose_tag(struct home *h, const char *vm, const char *tag, struct usersnapshot *u, struct mvm_error *err)
{
    CLEAN_FD int root = open_root(h, err);
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
        CLEAN_FD int dir = open_dir(root, vm, u->tag);
        if (dir < 0)
            return 0;
        if (tag)
            break;
    }
    mvm_error_set(err, -EEXIST, "there is a snapshot %s:%s already", vm, u->tag);
    mvm_error_hint(err, "choose another tag, or remove it: mvmctl snapshot rm %s %s", vm, u->tag);
    return -EEXIST;
}

int usersnapshot_create(struct home *h, const char *vm, const char *tag, struct usersnapshot *ret,
                        struct mvm_error *err)
{
    CLEAN_STAGE struct stage *s = NULL;
    struct msg_saved saved = {0};
    *ret = (struct usersnapshot){0};
    int r = machine_check_name(vm, err);
    if (r == 0 && tag)
        r = usersnapshot_check_tag(tag, err);
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

/* ---- Removing ---- */

static int no_such(const char *vm, const char *tag, struct mvm_error *err)
{
    mvm_error_set(err, -ENOENT, "there is no snapshot %s%s%s", vm, *tag ? ":" : "", tag);
    mvm_error_hint(err, "mvmctl snapshot ls shows the ones there are");
    return -ENOENT;
}

int usersnapshot_remove(struct home *h, const char *vm, const char *tag, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    CLEAN_FD int root = open_root(h, err);
    int r = root < 0 ? root : take_lock(&lock, root, err);
    if (r < 0)
        return r;
    CLEAN_FD int folder = path_open_beneath(root, vm, O_RDONLY | O_DIRECTORY, 0);
    if (folder < 0 || faccessat(folder, tag, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return no_such(vm, tag, err);
    r = path_remove_tree(folder, tag);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot remove the snapshot %s:%s", vm, tag);
    unlinkat(root, vm, AT_REMOVEDIR); /* where it was the last */
    tidy(h, root);
    return 0;
}

/* ---- Continuing ---- */

static int refuse(const struct usersnapshot *u, const char *why, struct mvm_error *err)
{
    mvm_error_set(err, -ESTALE, "snapshot %s:%s cannot be continued: %s", u->vm, u->tag, why);
    mvm_error_hint(err, "nothing was started, the snapshot is kept; another one, or up with the image, starts a vm");
    return -ESTALE;
}

/* What runs it must be as it was, and so must its files. */
static int verify(struct home *h, int root, int dir, json_object *meta, const struct usersnapshot *u,
                  struct mvm_error *err)
{
    CLEAN_FREE struct runfile *run = calloc(1, sizeof(*run));
    struct snapmeta now;
    struct mvm_error why = MVM_ERROR_INIT;
    if (!run)
        return mvm_error_errno(err, -ENOMEM, "snapshot");
    int r = vmm_choose_accel(h->state_fd, getenv("MVM_ACCEL"), &run->accel, err);
    if (r < 0)
        return r;
    run->memory_mib = u->memory_mib;
    run->vcpus = u->vcpus;
    snprintf(run->image_path, sizeof(run->image_path), "%s", u->image_path);
    if (present(u, run, &now, &why) < 0)
        return refuse(u, why.msg, err);
    const char *unfit = snapmeta_judge(meta, &now);
    if (unfit)
        return refuse(u, unfit, err);
    struct statindex *index = open_index(h, u);
    CLEAN_FD int image = keptimage_open(root, u->image_key);
    CLEAN_FD int rootfs = -1;
    CLEAN_FD int state = -1;
    r = snapmeta_open_file(meta, ROOTFS, image, artifact_name(ARTIFACT_ROOTFS), index, &rootfs, &why);
    if (r == 0)
        r = snapmeta_open_file(meta, STATE, dir, STATE, index, &state, &why);
    if (index)
        statindex_save(index);
    statindex_free(index);
    return r < 0 ? refuse(u, why.msg, err) : 0;
}

static int newest(int root, struct usersnapshot *u, struct mvm_error *err)
{
    struct list l = {0};
    int r = list_all(root, u->vm, &l, err);
    if (r == 0 && l.n == 0)
        r = no_such(u->vm, "", err);
    if (r == 0)
        snprintf(u->tag, sizeof(u->tag), "%s", l.v[l.n - 1].tag);
    free(l.v);
    return r;
}

int usersnapshot_find(struct home *h, const char *vm, const char *tag, struct usersnapshot *ret, struct mvm_error *err)
{
    *ret = (struct usersnapshot){0};
    snprintf(ret->vm, sizeof(ret->vm), "%s", vm);
    snprintf(ret->tag, sizeof(ret->tag), "%s", tag);
    CLEAN_FD int root = open_root(h, err);
    int r = root < 0 ? root : *tag ? 0 : newest(root, ret, err);
    if (r < 0)
        return r;
    CLEAN_FD int dir = open_dir(root, vm, ret->tag);
    if (dir < 0)
        return no_such(vm, ret->tag, err);
    CLEAN_JSON json_object *meta = NULL;
    load(ret, dir, &meta);
    if (ret->damaged)
        return refuse(ret, DAMAGED, err);
    keptimage_path(h->state, ret->image_key, ret->image_path, sizeof(ret->image_path));
    snprintf(ret->state_path, sizeof(ret->state_path), "%s/snapshots/%s/%s/" STATE, h->state, vm, ret->tag);
    return verify(h, root, dir, meta, ret, err);
}

void usersnapshot_fill(const struct usersnapshot *u, struct machine_config *c)
{
    c->role = "runtime";
    c->image = u->image_path;
    c->image_digest = u->image;
    c->hypervisor = u->backend;
    c->memory_mib = u->memory_mib;
    c->vcpus = (unsigned)u->vcpus;
    c->state = u->state_path;
}

/* Nobody else will read the state: it is neither hashed nor synced, and goes with the stage. */
int usersnapshot_fork(struct home *h, const char *vm, struct machine_config *c, struct progress *p,
                      struct machine_info *info, uint64_t *ret_stopped_ns, struct mvm_error *err)
{
    CLEAN_STAGE struct stage *s = NULL;
    CLEAN_FREE struct usersnapshot *u = calloc(1, sizeof(*u));
    struct msg_saved saved = {0};
    if (!u)
        return mvm_error_errno(err, -ENOMEM, "fork");
    int r = take(h, vm, &s, u, &saved, err);
    if (r < 0)
        return r;
    snprintf(u->state_path, sizeof(u->state_path), "%s/snapshots/%s/" STATE, h->state, s->name);
    usersnapshot_fill(u, c);
    *ret_stopped_ns = saved.stopped_ns;
    return machine_start(h, c, p, info, err);
}
