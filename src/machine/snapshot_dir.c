/* The user's snapshots on the disk. */
#include "machine/snapshot_dir.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "machine/pinned_image.h"
#include "vmdir/vmdir.h"
#include "vmdir/vmm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK         ".lock"
#define LOCK_WAIT_MS 30000

int snapshot_dir_open(struct home *h, struct mvm_error *err)
{
    return path_open_dir(h->state_fd, "snapshots", err);
}

int snapshot_dir_lock(struct lock *l, int root, struct mvm_error *err)
{
    const struct lock_wait wait = {.deadline = clock_deadline(LOCK_WAIT_MS)};
    return lock_take(l, root, LOCK, "snapshots", &wait, err);
}

/* ---- meta.json ---- */

static const struct json_field facts[] = {
#define TEXT(member)   JSON_TEXT(struct snapshot, "vm_" #member, member)
#define NUMBER(member) JSON_NUMBER(struct snapshot, "vm_" #member, member)
    TEXT(image),
    TEXT(image_key),
    TEXT(backend),
    TEXT(accel),
    NUMBER(memory_mib),
    NUMBER(vcpus),
    NUMBER(created_at),
    NUMBER(stopped_ns),
    JSON_OPTIONAL_TEXT(struct snapshot, "vm_network", network),
    JSON_OPTIONAL_TEXT(struct snapshot, "vm_network_limits", network_limits),
    JSON_OPTIONAL_TEXT(struct snapshot, "vm_member_of", member_of),
#undef TEXT
#undef NUMBER
};

void snapshot_dir_put_facts(json_object *o, const struct snapshot *u)
{
    json_put_fields(o, facts, ARRAY_SIZE(facts), u);
}

static int get_facts(json_object *o, struct snapshot *u)
{
    int64_t schema;
    bool known = json_get_int(o, "schema_version", &schema, NULL) == 0 && schema == SNAPSHOT_DIR_SCHEMA &&
                 json_get_fields(o, facts, ARRAY_SIZE(facts), u, NULL) == 0;
    return known && path_is_plain_name(u->image_key, 64) ? 0 : -ESTALE;
}

/* What is at hand for it, or what it is saved with. */
int snapshot_dir_present(const struct snapshot *u, const struct runfile *run, struct snapshot_meta *ret,
                         struct mvm_error *err)
{
    const struct vmm_ops *backend;
    *ret = (struct snapshot_meta){.tsc_khz = run->accel.tsc_khz};
    int r = vmm_find(u->backend, &backend, err);
    return r < 0 ? r : vmm_plan_identity(backend, run, &ret->id, err);
}

uint64_t snapshot_dir_allocated(int dirfd, const char *name)
{
    struct stat st;
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

int snapshot_dir_load(struct snapshot *u, int dir, json_object **ret_meta, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    u->bytes = snapshot_dir_allocated(dir, SNAPSHOT_DIR_STATE);
    int r = json_load_sealed(dir, SNAPSHOT_DIR_META, SNAPSHOT_META_MAX, &o, err);
    if (r < 0 && !mvm_error_is_absent(r) && !mvm_error_is_damage(r)) {
        mvm_error_wrap(err, "snapshot %s:%s", u->vm, u->tag);
        return r;
    }
    u->damaged = r < 0 || get_facts(o, u) < 0;
    if (ret_meta)
        *ret_meta = TAKE_PTR(o);
    return 0;
}

int snapshot_dir_open_one(int root, const char *vm, const char *tag)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", vm, tag);
    return os_open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0);
}

struct statindex *snapshot_dir_index(struct home *h, const struct snapshot *u)
{
    char key[160];
    snprintf(key, sizeof(key), "snapshot %s:%s of the user", u->vm, u->tag);
    return statindex_load(h->cache_fd, key);
}

/* ---- Listing ---- */

struct walk {
    struct snapshot_list *list;
    int root;
    const char *vm;
    struct mvm_error *err;
};

static int list_add(struct walk *w, const char *tag)
{
    CLEAN_FD int dir = snapshot_dir_open_one(w->root, w->vm, tag);
    if (dir < 0) /* it went meanwhile, or is no snapshot */
        return mvm_error_is_absent(dir) ? 0 : mvm_error_errno(w->err, dir, "snapshot %s:%s", w->vm, tag);
    struct snapshot_list *l = w->list;
    struct snapshot *more = reallocarray(l->v, l->n + 1, sizeof(*more));
    if (!more)
        return mvm_error_errno(w->err, -ENOMEM, "snapshots");
    l->v = more;
    struct snapshot *u = &l->v[l->n++];
    *u = (struct snapshot){0};
    snprintf(u->vm, sizeof(u->vm), "%s", w->vm);
    snprintf(u->tag, sizeof(u->tag), "%s", tag);
    return snapshot_dir_load(u, dir, NULL, w->err);
}

static int on_tag(void *data, const char *tag)
{
    return path_is_plain_name(tag, SNAPSHOT_MAX_TAG) ? list_add(data, tag) : 0;
}

static int on_vm(void *data, const char *vm)
{
    struct walk *w = data;
    if (!path_is_plain_name(vm, VMDIR_MAX_NAME))
        return 0;
    w->vm = vm;
    int r = path_each(w->root, vm, on_tag, w);
    return mvm_error_is_absent(r) ? 0 : r;
}

static int by_name_and_age(const void *a, const void *b)
{
    const struct snapshot *x = a, *y = b;
    int r = strcmp(x->vm, y->vm);
    if (r == 0)
        r = x->created_at < y->created_at ? -1 : x->created_at > y->created_at;
    return r ? r : strcmp(x->tag, y->tag);
}

int snapshot_dir_list(int root, const char *vm, struct snapshot_list *ret, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    struct walk w = {.list = ret, .root = root, .err = &why};
    int r = vm ? on_vm(&w, vm) : path_each(root, ".", on_vm, &w);
    if (ret->n)
        qsort(ret->v, ret->n, sizeof(*ret->v), by_name_and_age);
    if (r < 0 && why.msg[0])
        return mvm_error_set(err, r, "cannot list snapshots: %s", why.msg);
    return r < 0 ? mvm_error_errno(err, r, "cannot list snapshots") : 0;
}

/* ---- Tidying: under the lock. Whatever cannot be read may need every image. ---- */

struct use {
    struct home *h;
    int root;
    struct snapshot_list snapshots;
    const char *key;
};

/* 1 where a VM, running or not, continues from the image, or may. */
static int on_machine(void *data, const char *name)
{
    struct use *u = data;
    if (!path_is_plain_name(name, VMDIR_MAX_NAME))
        return 0;
    CLEAN_FREE struct runfile *run = calloc(1, sizeof(*run));
    CLEAN_FD int dir = vmdir_open(u->h, name, NULL);
    if (!run || dir < 0)
        return !run || !mvm_error_is_absent(dir);
    int r = runfile_load(run, dir, NULL);
    if (mvm_error_is_absent(r))
        return lock_is_held(dir, VMDIR_LOCK) != 0; /* its starter is about to write it */
    const char *base = strrchr(run->image_path, '/');
    return r < 0 || (run->state[0] && base && strcmp(base + 1, u->key) == 0);
}

/* True where its maker lives, or may; one of a dead maker is removed. */
static bool stage_lives(int root, const char *name)
{
    CLEAN_FD int fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return !mvm_error_is_absent(-errno);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return true;
    (void)!path_remove_tree(root, name);
    return false;
}

/* 1 where a snapshot in the making needs the image, or may. */
static int on_stage(void *data, const char *name)
{
    struct use *u = data;
    if (strncmp(name, SNAPSHOT_DIR_STAGE, strlen(SNAPSHOT_DIR_STAGE)) != 0 || !stage_lives(u->root, name))
        return 0;
    CLEAN_FD int stage = openat(u->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    CLEAN_BUF struct buf text = BUF_INIT(256);
    int r = stage < 0 ? -errno : path_read_file(stage, SNAPSHOT_DIR_NEEDS, &text, NULL);
    return r < 0 ? !mvm_error_is_absent(r) : strcmp(buf_cstr(&text), u->key) == 0;
}

static bool image_used(void *data, const char *key)
{
    struct use *u = data;
    u->key = key;
    for (size_t i = 0; i < u->snapshots.n; i++) {
        const struct snapshot *s = &u->snapshots.v[i];
        if (s->damaged || strcmp(s->image_key, key) == 0) /* a damaged one may need any */
            return true;
    }
    int r = path_each(u->root, ".", on_stage, u);
    if (r == 0)
        r = path_each(u->h->state_fd, "vms", on_machine, u);
    return r != 0 && r != -ENOENT;
}

static int on_dead_stage(void *data, const char *name)
{
    struct use *u = data;
    if (strncmp(name, SNAPSHOT_DIR_STAGE, strlen(SNAPSHOT_DIR_STAGE)) == 0)
        (void)stage_lives(u->root, name);
    return 0;
}

void snapshot_dir_tidy(struct home *h, int root)
{
    struct use u = {.h = h, .root = root};
    (void)!path_each(root, ".", on_dead_stage, &u);
    if (snapshot_dir_list(root, NULL, &u.snapshots, NULL) == 0)
        pinned_image_sweep(root, image_used, &u);
    free(u.snapshots.v);
}
