/* VMs seen from outside: names, listing, stopping. */
#include "machine/machine.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "host/json.h"
#include "machine/client.h"
#include "vmdir/runfile.h"
#include "vmdir/vmdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATUS_DEADLINE_MS 1500 /* for all VMs together */
#define ANSWER_MS          5000 /* a supervisor that says nothing for so long is killed by `down` */
#define KILL_MS            2000

static void read_last(int dirfd, struct machine_info *info)
{
    CLEAN_JSON json_object *o = NULL;
    const char *ended;
    json_object *failed = NULL, *vanished = NULL;
    if (json_load(dirfd, VMDIR_LAST, 65536, &o, NULL) == 0 && json_get_string(o, "ended", &ended, NULL) == 0)
        snprintf(info->ended, sizeof(info->ended), "%s", ended);
    else
        snprintf(info->ended, sizeof(info->ended), "the supervisor was killed, or the host restarted");
    info->vanished = !o || (json_object_object_get_ex(o, "vanished", &vanished) && json_object_get_boolean(vanished));
    /* One that an earlier version wrote says so in its first word alone. */
    bool is_failed = o && json_object_object_get_ex(o, "failed", &failed) ? json_object_get_boolean(failed)
                                                                          : strncmp(info->ended, "failed", 6) == 0;
    snprintf(info->state, sizeof(info->state), "%s", is_failed ? vm_state_name(VM_STATE_FAILED) : "stopped");
}

/* The supervisor's own account; one that just started has no socket yet and counts as starting. */
static void ask_status(struct home *h, struct machine_info *info, uint64_t deadline)
{
    CLEAN_CLIENT struct client *c = NULL;
    int r = client_connect_by(h, info->name, deadline, &c, NULL);
    const char *state = r == -ENOENT ? vm_state_name(VM_STATE_STARTING) : "not responding";
    if (r == 0) {
        info->supervisor = client_peer(c);
        r = client_status(c, &info->status, deadline, NULL);
        /* It ended the connection, which it does at its end. */
        state = r == 0 ? info->status.state : r == -ETIMEDOUT ? state : vm_state_name(VM_STATE_STOPPING);
    }
    /* A VM is there for its services: where these are not ready it is not either. */
    if (r == 0 && vm_state_parse(state) == VM_STATE_READY && info->status.services[0])
        state = info->status.services;
    snprintf(info->state, sizeof(info->state), "%s", state);
}

/* Everything but what the supervisor alone knows. */
static int look_at(int dir, const char *name, struct machine_info *ret, struct mvm_error *err)
{
    CLEAN_FREE struct runfile *run = calloc(1, sizeof(*run));
    if (!run)
        return mvm_error_errno(err, -ENOMEM, "vm");
    *ret = (struct machine_info){.tether = -1};
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    if (runfile_load(run, dir, NULL) == 0) {
        snprintf(ret->role, sizeof(ret->role), "%s", run->role);
        snprintf(ret->image, sizeof(ret->image), "%s", run->image);
        snprintf(ret->backend, sizeof(ret->backend), "%s", run->backend);
        snprintf(ret->network, sizeof(ret->network), "%s", run->network);
        snprintf(ret->network_limits, sizeof(ret->network_limits), "%s", run->network_limits);
        snprintf(ret->member_of, sizeof(ret->member_of), "%s", run->member_of);
        ret->member = (unsigned)run->member;
        ret->accel = run->accel;
        ret->memory_mib = run->memory_mib;
        ret->vcpus = (unsigned)run->vcpus;
        ret->started_at = run->started_at;
    }
    int held = lock_is_held(dir, VMDIR_LOCK);
    if (held < 0)
        return mvm_error_errno(err, held, "cannot tell whether vm '%s' runs", name);
    ret->running = held;
    if (!held)
        read_last(dir, ret);
    return 0;
}

int machine_inspect(struct home *h, const char *name, struct machine_info *ret, struct mvm_error *err)
{
    CLEAN_FD int dir = vmdir_open(h, name, err);
    if (dir < 0)
        return dir;
    int r = look_at(dir, name, ret, err);
    if (r == 0 && ret->running)
        ask_status(h, ret, clock_deadline(STATUS_DEADLINE_MS));
    return r;
}

void machine_hint_paused(struct home *h, const char *name, struct mvm_error *err)
{
    struct machine_info info;
    if (err && machine_inspect(h, name, &info, NULL) == 0 && vm_state_parse(info.state) == VM_STATE_PAUSED)
        mvm_error_hint(err, "mvmctl resume %s lets it go on", name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* One of the supervisors that are asked at the same time, with one deadline for all. */
struct question {
    struct home *h;
    struct machine_info *info;
    uint64_t deadline;
    pthread_t thread;
    bool threaded;
};

static void *ask_one(void *data)
{
    struct question *q = data;
    ask_status(q->h, q->info, q->deadline);
    return NULL;
}

static int ask_all(struct home *h, struct machine_info *list, size_t n, struct mvm_error *err)
{
    CLEAN_FREE struct question *questions = calloc(n + 1, sizeof(*questions));
    if (!questions)
        return mvm_error_errno(err, -ENOMEM, "vms");
    uint64_t deadline = clock_deadline(STATUS_DEADLINE_MS);
    for (size_t i = 0; i < n; i++) {
        struct question *q = &questions[i];
        *q = (struct question){.h = h, .info = &list[i], .deadline = deadline};
        q->threaded = n > 1 && list[i].running && pthread_create(&q->thread, NULL, ask_one, q) == 0;
        if (list[i].running && !q->threaded)
            ask_one(q);
    }
    for (size_t i = 0; i < n; i++)
        if (questions[i].threaded)
            pthread_join(questions[i].thread, NULL);
    return 0;
}

/* All folders of VMs, sorted by name. */
struct vm_names {
    char (*v)[VMDIR_MAX_NAME + 1];
    size_t n;
};

static void vm_names_done(struct vm_names *l)
{
    free(l->v);
}

static int on_name(void *data, const char *name)
{
    struct vm_names *l = data;
    if (!path_is_plain_name(name, VMDIR_MAX_NAME))
        return 0;
    void *more = reallocarray(l->v, l->n + 1, sizeof(*l->v));
    if (!more)
        return -ENOMEM;
    l->v = more;
    snprintf(l->v[l->n++], sizeof(*l->v), "%.63s", name);
    return 0;
}

static int read_names(struct home *h, struct vm_names *l, struct mvm_error *err)
{
    CLEAN_FD int vms = vmdir_open_all(h, err);
    if (vms < 0)
        return vms;
    int r = path_each(vms, ".", on_name, l);
    if (l->n)
        qsort(l->v, l->n, sizeof(*l->v), by_name);
    return r < 0 ? mvm_error_errno(err, r, "cannot list vms") : 0;
}

int machine_list(struct home *h, bool builders, struct machine_info **ret, size_t *ret_n, struct mvm_error *err)
{
    CLEANUP(vm_names_done) struct vm_names names = {0};
    int r = read_names(h, &names, err);
    if (r < 0)
        return r;
    CLEAN_FREE struct machine_info *list = calloc(names.n + 1, sizeof(*list));
    if (!list)
        return mvm_error_errno(err, -ENOMEM, "vms");
    size_t n = 0;
    for (size_t i = 0; i < names.n; i++) {
        CLEAN_FD int dir = vmdir_open(h, names.v[i], NULL);
        r = dir < 0 ? dir : look_at(dir, names.v[i], &list[n], NULL);
        if (r < 0)
            continue; /* one that goes away meanwhile is not there */
        n += builders || vm_role_parse(list[n].role) != VM_ROLE_BUILDER;
    }
    r = ask_all(h, list, n, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(list);
    *ret_n = n;
    return 0;
}

/* A supervisor that does not answer is killed; its VMM dies with it. */
static void kill_supervisor(const struct client *c)
{
    pid_t pid = client_peer(c);
    CLEAN_FD int fd = pid > 1 ? os_watch_process(pid) : -1;
    /* The connection is still open, so the process behind it is still that one. */
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd >= 0 && os_signal_process(fd, pid, SIGKILL) == 0)
        (void)!poll(&p, 1, KILL_MS);
}

/* Asks the supervisor and waits for the end of the connection, which is the end of the supervisor. */
static void ask_stop(struct home *h, const char *name, uint64_t grace_ms)
{
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_BUF struct buf m = BUF_INIT(64);
    CLEAN_FREE struct msg_status *status = calloc(1, sizeof(*status));
    uint32_t stream = 0;
    if (!status || client_connect(h, name, &c, NULL) < 0)
        return;
    if (client_status(c, status, clock_deadline(ANSWER_MS), NULL) == -ETIMEDOUT) {
        kill_supervisor(c);
        return;
    }
    if (msg_begin(&m, MSG_STOP) < 0 || msg_put_u64(&m, 1, grace_ms) < 0 || client_open(c, &m, &stream, NULL) < 0)
        return;
    uint64_t deadline = clock_deadline((int64_t)grace_ms + 5000);
    for (;;) {
        struct client_event e;
        int r = client_poll(c, NULL, 0, deadline, NULL);
        if (r == -ETIMEDOUT)
            kill_supervisor(c);
        if (r < 0)
            return;
        while (client_next(c, &e))
            ;
    }
}

int machine_stop(struct home *h, const char *name, uint64_t grace_ms, struct mvm_error *err)
{
    CLEAN_FD int dir = vmdir_open(h, name, err);
    if (dir < 0)
        return dir;
    if (lock_is_held(dir, VMDIR_LOCK) == 1)
        ask_stop(h, name, grace_ms);
    CLEAN_FD int vms = vmdir_open_all(h, err);
    if (vms < 0)
        return vms;
    return vmdir_remove(vms, name, clock_deadline((int64_t)grace_ms + 5000), err);
}

int machine_pick_name(struct home *h, const char *base, char ret[static VMDIR_MAX_NAME + 1], struct mvm_error *err)
{
    int r = vmdir_check_name(base, err);
    for (unsigned i = 1; r == 0 && i < 10000; i++) {
        if (i == 1)
            snprintf(ret, VMDIR_MAX_NAME + 1, "%s", base);
        else
            snprintf(ret, VMDIR_MAX_NAME + 1, "%.50s-%u", base, i);
        CLEAN_FD int dir = vmdir_open(h, ret, NULL);
        if (dir < 0 || lock_is_held(dir, VMDIR_LOCK) == 0)
            return 0;
    }
    return r < 0 ? r : mvm_error_set(err, -EEXIST, "there are too many vms named '%s'", base);
}
