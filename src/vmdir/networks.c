#include "vmdir/networks.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"
#include "host/os.h"
#include "net/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FOLDER     "networks"
#define FILE_NAME  "network.json"
#define SCHEMA     1
#define LOCK_MS    10000
#define MAX_LISTED 1024

static const struct json_field fields[] = {
    JSON_TEXT(struct network_info, "policy", policy),
    JSON_NUMBER(struct network_info, "created_at", created_at),
};

int networks_check_name(const char *name, struct mvm_error *err)
{
    size_t n = strlen(name);
    bool policy = false;
    for (int k = 0; k < POLICY_KINDS; k++)
        policy |= strcmp(name, policy_kind_name((enum policy_kind)k)) == 0;
    if (policy)
        mvm_error_set(err, -EINVAL, "a network cannot be called '%s': that is a policy's name", name);
    else if (n < 1 || n > NETWORKS_MAX_NAME || name[0] == '-' ||
             strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != n)
        mvm_error_set(err, -EINVAL, "'%.70s' is no name for a network", name);
    else
        return 0;
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, policy
                            ? "choose another name"
                            : "it is part of its VMs' names in DNS: at most 63 of a-z, 0-9 and '-', the first no '-'");
    return -EINVAL;
}

/* MVM_HOME/networks; and, with a lock on it, all that is in it stays as it is. */
static int open_all(struct home *h, bool locked, struct mvm_error *err)
{
    CLEAN_FD int fd = path_open_dir(h->state_fd, FOLDER, err);
    if (fd < 0)
        return fd;
    int r = locked ? os_lock_until(fd, clock_deadline(LOCK_MS)) : 0;
    return r < 0 ? mvm_error_errno(err, r, "cannot lock %s/" FOLDER, h->state) : TAKE_FD(fd);
}

static int open_one(int all, const char *name)
{
    int fd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* ---- Members ---- */

struct scan {
    int vms;
    struct network_info *list; /* those whose members are counted */
    size_t n;
    struct runfile run; /* of the VM that is looked at */
};

static void add_member(struct network_info *i, const struct runfile *run)
{
    if (i->n_members == NET_MEMBERS || run->member < 1 || run->member > NET_MEMBERS)
        return;
    struct network_member *m = &i->members[i->n_members++];
    snprintf(m->vm, sizeof(m->vm), "%s", run->name);
    m->number = (unsigned)run->member;
}

static int on_vm(void *data, const char *name)
{
    struct scan *s = data;
    CLEAN_FD int dir = path_is_plain_name(name, VMDIR_MAX_NAME) ? open_one(s->vms, name) : -1;
    if (dir < 0 || lock_is_held(dir, VMDIR_LOCK) != 1 || runfile_load(&s->run, dir, NULL) < 0)
        return 0; /* it does not run, or is about to say what it is */
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->run.member_of, s->list[i].name) == 0)
            add_member(&s->list[i], &s->run);
    return 0;
}

static int by_number(const void *a, const void *b)
{
    return (int)((const struct network_member *)a)->number - (int)((const struct network_member *)b)->number;
}

static int find_members(struct home *h, struct network_info *list, size_t n, struct mvm_error *err)
{
    CLEAN_FREE struct scan *s = calloc(1, sizeof(*s));
    CLEAN_FD int vms = vmdir_open_all(h, err);
    if (vms < 0 || !s)
        return vms < 0 ? vms : mvm_error_errno(err, -ENOMEM, "networks");
    *s = (struct scan){.vms = vms, .list = list, .n = n};
    int r = path_each(vms, ".", on_vm, s);
    for (size_t i = 0; i < n; i++)
        qsort(list[i].members, list[i].n_members, sizeof(*list[i].members), by_number);
    return r < 0 ? mvm_error_errno(err, r, "cannot list vms") : 0;
}

/* ---- Networks ---- */

static int load(int all, const char *name, struct network_info *ret, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    int64_t schema = 0;
    *ret = (struct network_info){0};
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    CLEAN_FD int dir = open_one(all, name);
    int r = dir < 0 ? dir : json_load_sealed(dir, FILE_NAME, 64 * 1024, &o, err);
    if (mvm_error_is_absent(r)) { /* or somebody was killed while he made or removed it */
        mvm_error_set(err, -ENOENT, "there is no network '%s'", name);
        mvm_error_hint(err, "mvmctl network create %s makes it; public, none and full are policies", name);
        return -ENOENT;
    }
    if (r == 0)
        r = json_get_int(o, "schema_version", &schema, err);
    if (r == 0 && schema != SCHEMA)
        r = mvm_error_set(err, -EINVAL, "schema version %lld", (long long)schema);
    if (r == 0)
        r = json_get_fields(o, fields, ARRAY_SIZE(fields), ret, err);
    if (r < 0) {
        mvm_error_wrap(err, "network '%s'", name);
        mvm_error_hint(err, "mvmctl network rm %s and then create makes it anew", name);
    }
    return r;
}

int networks_find(struct home *h, const char *name, struct network_info *ret, struct mvm_error *err)
{
    int r = networks_check_name(name, err);
    if (r < 0)
        return r;
    CLEAN_FD int all = open_all(h, false, err);
    r = all < 0 ? all : load(all, name, ret, err);
    return r < 0 ? r : find_members(h, ret, 1, err);
}

int networks_create(struct home *h, const char *name, const char *policy, struct mvm_error *err)
{
    CLEAN_FREE struct network_info *i = calloc(1, sizeof(*i));
    int r = networks_check_name(name, err);
    if (r < 0 || !i)
        return r < 0 ? r : mvm_error_errno(err, -ENOMEM, "network");
    CLEAN_FD int all = open_all(h, true, err);
    if (all < 0)
        return all;
    if (load(all, name, i, NULL) != -ENOENT) {
        mvm_error_set(err, -EEXIST, "there is a network '%s' already", name);
        mvm_error_hint(err, "choose another name, or remove it with mvmctl network rm %s", name);
        return -EEXIST;
    }
    snprintf(i->policy, sizeof(i->policy), "%s", policy);
    i->created_at = clock_wall();
    if (mkdirat(all, name, 0700) < 0 && errno != EEXIST)
        return mvm_error_errno(err, -errno, "cannot make network '%s'", name);
    CLEAN_FD int dir = open_one(all, name);
    if (dir < 0)
        return mvm_error_errno(err, dir, "cannot make network '%s'", name);
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA);
    json_put_fields(o, fields, ARRAY_SIZE(fields), i);
    return json_save_sealed(dir, FILE_NAME, o, 0600, true, err);
}

struct names {
    int all;
    struct network_info *v;
    size_t n;
};

static int on_network(void *data, const char *name)
{
    struct names *l = data;
    if (networks_check_name(name, NULL) < 0 || l->n == MAX_LISTED)
        return 0;
    struct network_info *more = reallocarray(l->v, l->n + 1, sizeof(*l->v));
    if (!more)
        return -ENOMEM;
    l->v = more;
    if (load(l->all, name, &l->v[l->n], NULL) == 0)
        l->n++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct network_info *)a)->name, ((const struct network_info *)b)->name);
}

int networks_list(struct home *h, struct network_info **ret, size_t *ret_n, struct mvm_error *err)
{
    CLEAN_FD int all = open_all(h, false, err);
    struct names l = {.all = all};
    if (all < 0)
        return all;
    int r = path_each(all, ".", on_network, &l);
    CLEAN_FREE struct network_info *list = l.v;
    if (r < 0)
        return mvm_error_errno(err, r, "cannot list networks");
    if (l.n)
        qsort(list, l.n, sizeof(*list), by_name);
    r = l.n ? find_members(h, list, l.n, err) : 0;
    if (r < 0)
        return r;
    *ret = TAKE_PTR(list);
    *ret_n = l.n;
    return 0;
}

int networks_remove(struct home *h, const char *name, struct mvm_error *err)
{
    CLEAN_FREE struct network_info *i = calloc(1, sizeof(*i));
    int r = networks_check_name(name, err);
    if (r < 0 || !i)
        return r < 0 ? r : mvm_error_errno(err, -ENOMEM, "network");
    CLEAN_FD int all = open_all(h, true, err);
    if (all < 0)
        return all;
    if (load(all, name, i, NULL) == -ENOENT) /* one that is damaged can be removed */
        return load(all, name, i, err);
    r = find_members(h, i, 1, err);
    if (r < 0)
        return r;
    if (i->n_members) {
        mvm_error_set(err, -EBUSY, "network '%s' is in use: vm '%s' runs in it", name, i->members[0].vm);
        mvm_error_hint(err, "mvmctl down %s ends it", i->members[0].vm);
        return -EBUSY;
    }
    r = path_remove_tree(all, name);
    return r < 0 ? mvm_error_errno(err, r, "cannot remove network '%s'", name) : 0;
}

/* The least that nobody has but a VM of that name, which is about to have another; 0: none. */
static unsigned free_number(const struct network_info *i, const char *vm)
{
    for (unsigned n = 1; n <= NET_MEMBERS; n++) {
        bool taken = false;
        for (unsigned k = 0; k < i->n_members; k++)
            taken |= i->members[k].number == n && strcmp(i->members[k].vm, vm) != 0;
        if (!taken)
            return n;
    }
    return 0;
}

int networks_join(struct home *h, const char *name, struct runfile *run, int *ret_lock, struct mvm_error *err)
{
    CLEAN_FREE struct network_info *i = calloc(1, sizeof(*i));
    int r = networks_check_name(name, err);
    if (r < 0 || !i)
        return r < 0 ? r : mvm_error_errno(err, -ENOMEM, "network");
    CLEAN_FD int all = open_all(h, true, err);
    r = all < 0 ? all : load(all, name, i, err);
    if (r == 0)
        r = find_members(h, i, 1, err);
    if (r < 0)
        return r;
    run->member = free_number(i, run->name);
    if (!run->member) {
        mvm_error_set(err, -ENOSPC, "network '%s' has %d VMs already, the most that it takes", name, NET_MEMBERS);
        mvm_error_hint(err, "mvmctl down NAME ends one of them; mvmctl network ls names them");
        return -ENOSPC;
    }
    snprintf(run->member_of, sizeof(run->member_of), "%s", name);
    snprintf(run->network, sizeof(run->network), "%s", i->policy);
    if ((size_t)snprintf(run->network_folder, sizeof(run->network_folder), "%s/" FOLDER "/%s", h->state, name) >=
        sizeof(run->network_folder))
        return mvm_error_set(err, -ENAMETOOLONG, "the path of network '%s' is too long", name);
    *ret_lock = TAKE_FD(all);
    return 0;
}
