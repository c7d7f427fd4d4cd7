/* The user's snapshots on the disk. */
#include "machine/snapfolder.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/keptimage.h"
#include "machine/launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK         ".lock"
#define LOCK_WAIT_MS 30000

int snapfolder_open(struct home *h, struct mvm_error *err)
{
    return path_open_dir(h->state_fd, "snapshots", err);
}

int snapfolder_lock(struct lock *l, int root, struct mvm_error *err)
{
    const struct lock_wait wait = {.deadline = clock_deadline(LOCK_WAIT_MS)};
    return lock_take(l, root, LOCK, "snapshots", &wait, err);
}

/* ---- meta.json ---- */

static const struct json_field facts[] = {
#define TEXT(member)   JSON_TEXT(struct usersnapshot, "vm_" #member, member)
#define NUMBER(member) JSON_NUMBER(struct usersnapshot, "vm_" #member, member)
    TEXT(image),        TEXT(image_key), TEXT(backend),      TEXT(accel),
    NUMBER(memory_mib), NUMBER(vcpus),   NUMBER(created_at), NUMBER(stopped_ns),
#undef TEXT
#undef NUMBER
};

void snapfolder_put_facts(json_object *o, const struct usersnapshot *u)
{
    json_put_fields(o, facts, ARRAY_SIZE(facts), u);
}

static int get_facts(json_object *o, struct usersnapshot *u)
{
    int64_t schema;
    bool known = json_get_int(o, "schema_version", &schema, NULL) == 0 && schema == SNAPFOLDER_SCHEMA &&
                 json_get_fields(o, facts, ARRAY_SIZE(facts), u, NULL) == 0;
    return known && path_is_plain_name(u->image_key, 64) ? 0 : -ESTALE;
}

/* What is at hand for it, or what it is saved with. */
int snapfolder_present(const struct usersnapshot *u, const struct runfile *run, struct snapmeta *ret,
                       struct mvm_error *err)
{
    const struct vmm_ops *backend;
    *ret = (struct snapmeta){.tsc_khz = run->accel.tsc_khz};
    int r = vmm_find(u->backend, &backend, err);
    return r < 0 ? r : launch_identity(backend, run, &ret->id, err);
}

uint64_t snapfolder_allocated(int dirfd, const char *name)
{
    struct stat st;
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* Facts of the snapshot in a folder; vm and tag are set. */
void snapfolder_load(struct usersnapshot *u, int dir, json_object **ret_meta)
{
    CLEAN_JSON json_object *o = NULL;
    u->bytes = snapfolder_allocated(dir, SNAPFOLDER_STATE);
    u->damaged = json_load(dir, SNAPFOLDER_META, SNAPMETA_MAX, &o, NULL) < 0 || get_facts(o, u) < 0;
    if (ret_meta)
        *ret_meta = TAKE_PTR(o);
}

int snapfolder_open_one(int root, const char *vm, const char *tag)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", vm, tag);
    return path_open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0);
}

struct statindex *snapfolder_index(struct home *h, const struct usersnapshot *u)
{
    char key[160];
    snprintf(key, sizeof(key), "snapshot %s:%s of the user", u->vm, u->tag);
    return statindex_load(h->cache_fd, key);
}

/* ---- Listing ---- */

static int list_add(struct snaplist *l, int root, const char *vm, const char *tag)
{
    CLEAN_FD int dir = snapfolder_open_one(root, vm, tag);
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
    snapfolder_load(u, dir, NULL);
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
    struct snaplist *list;
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

int snapfolder_list(int root, const char *vm, struct snaplist *ret, struct mvm_error *err)
{
    struct walk w = {.list = ret, .root = root};
    int r = vm ? on_vm(&w, vm) : each_name(root, ".", on_vm, &w);
    if (ret->n)
        qsort(ret->v, ret->n, sizeof(*ret->v), by_name_and_age);
    return r < 0 ? mvm_error_errno(err, r, "cannot list snapshots") : 0;
}

/* ---- Tidying: under the lock ---- */

struct use {
    struct home *h;
    int root;
    struct snaplist snapshots;
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
        if (strncmp(e->d_name, SNAPFOLDER_STAGE, strlen(SNAPFOLDER_STAGE)) != 0 || !stage_lives(root, e->d_name))
            continue;
        CLEAN_FD int stage = openat(root, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        CLEAN_BUF struct buf text = BUF_INIT(256);
        if (stage >= 0 && path_read_file(stage, SNAPFOLDER_NEEDS, &text, NULL) == 0 &&
            strcmp(buf_cstr(&text), key) == 0)
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

void snapfolder_tidy(struct home *h, int root)
{
    struct use u = {.h = h, .root = root};
    (void)stages_need(root, ""); /* removes those of dead makers */
    if (snapfolder_list(root, NULL, &u.snapshots, NULL) == 0)
        keptimage_sweep(root, image_used, &u);
    free(u.snapshots.v);
}
