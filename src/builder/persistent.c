#include "builder/persistent.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/lock.h"
#include "host/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RUN_FOLDER       "run"
#define RECORD           "persistent-builder.json"
#define LOCK             "persistent-builder.lock"
#define MAX_RECORD       65536
#define SCHEMA           2
#define ANSWER_MS        3000
#define STOP_GRACE_MS    20000
#define MAX_CLIENTS_BUSY 48 /* of the supervisor's 64 connections: beyond it a build gets a builder of its own */

/* ---- The record ---- */

struct record {
    char image[65];
    char workspace[4096];
    char network[BUILDER_NETWORK_MAX];
    uint64_t started_at, idle_ms;
    bool held;
};

/* 0, -ENOENT where there is none or it is damaged, and another error where it cannot be read now. */
static int record_load(int run, struct record *r, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    const char *image = "", *workspace = "", *network = "";
    int64_t schema = 0, started = 0, idle = 0;
    json_object *held = NULL;
    *r = (struct record){0};
    int e = json_load_sealed(run, RECORD, MAX_RECORD, &o, err);
    if (e < 0)
        return mvm_error_is_absent(e) || mvm_error_is_damage(e) ? -ENOENT : e;
    if (json_get_int(o, "schema_version", &schema, err) < 0 || schema != SCHEMA ||
        json_get_string(o, "image", &image, err) < 0 || json_get_string(o, "workspace", &workspace, err) < 0 ||
        json_get_int(o, "started_at", &started, err) < 0 || json_get_int(o, "idle_ms", &idle, err) < 0)
        return -ENOENT;
    snprintf(r->image, sizeof(r->image), "%s", image);
    snprintf(r->workspace, sizeof(r->workspace), "%s", workspace);
    if (json_get_string(o, "network", &network, NULL) == 0) /* older ones lack it */
        snprintf(r->network, sizeof(r->network), "%s", network);
    r->started_at = (uint64_t)started;
    r->idle_ms = (uint64_t)idle;
    r->held = json_object_object_get_ex(o, "held", &held) && json_object_get_boolean(held);
    return 0;
}

static int record_save(int run, const struct record *r, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA);
    json_add_string(o, "vm", PERSISTENT_NAME);
    json_add_string(o, "image", r->image);
    json_add_string(o, "workspace", r->workspace);
    json_add_string(o, "network", r->network);
    json_add_int(o, "started_at", (int64_t)r->started_at);
    json_add_int(o, "idle_ms", (int64_t)r->idle_ms);
    json_add_bool(o, "held", r->held);
    return json_save_sealed(run, RECORD, o, 0600, false, err);
}

static int open_run(struct home *h, struct mvm_error *err)
{
    return path_open_dir(h->state_fd, RUN_FOLDER, err);
}

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for the builder that another process starts (%s)", holder);
}

/* One process at a time starts, stops or replaces it. */
static int take_lock(struct lock *l, int run, struct progress *p, struct mvm_error *err)
{
    const struct lock_wait wait = {.waiting = say_waiting, .data = p};
    return lock_take(l, run, LOCK, "starting the builder", &wait, err);
}

/* ---- What runs ---- */

/* 1 where there is one, running or not, 0 where there is none, -errno where that cannot be said. */
static int inspect(struct home *h, struct machine_info *ret, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = machine_inspect(h, PERSISTENT_NAME, ret, &why);
    if (r < 0 && r != -ENOENT && err)
        *err = why;
    return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

/* The record goes where it is known, under the lock, that there is no VM: one that another process writes right now
 * belongs to a VM which that process starts right now. */
static int drop_stale_record(struct home *h, int run, bool *ret_stale, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct machine_info m;
    if (faccessat(run, RECORD, F_OK, AT_SYMLINK_NOFOLLOW) < 0 || lock_take(&lock, run, LOCK, "looking", NULL, NULL) < 0)
        return 0;
    int there = inspect(h, &m, err);
    if (there < 0 || (there && m.running))
        return MIN_OF(there, 0);
    *ret_stale = unlinkat(run, RECORD, 0) == 0;
    return 0;
}

int persistent_status(struct home *h, struct persistent_status *ret, struct mvm_error *err)
{
    struct machine_info m;
    struct record r;
    *ret = (struct persistent_status){.state = "absent"};
    CLEAN_FD int run = open_run(h, err);
    if (run < 0)
        return run;
    int there = inspect(h, &m, err);
    if (there < 0)
        return there;
    if (!there || !m.running)
        return drop_stale_record(h, run, &ret->stale, err);
    int e = record_load(run, &r, err);
    if (e < 0 && e != -ENOENT)
        return e;
    snprintf(ret->state, sizeof(ret->state), "%s", m.state);
    snprintf(ret->mode, sizeof(ret->mode), "%s", m.status.mode);
    ret->clients = m.status.clients > 0 ? (unsigned)m.status.clients - 1 : 0;
    ret->idle_ms = m.status.idle_ms;
    ret->started_at = m.started_at;
    ret->supervisor = m.supervisor;
    ret->memory_mib = m.memory_mib;
    ret->vcpus = m.vcpus;
    if (e == 0) {
        snprintf(ret->image, sizeof(ret->image), "%s", r.image);
        snprintf(ret->workspace, sizeof(ret->workspace), "%s", r.workspace);
        ret->held = r.held;
    }
    return 0;
}

/* ---- Using it ---- */

/* Asks the supervisor for its state: 0 with the connection, -EBUSY where too many have one. */
static int connect_to(struct builder_vm *v, struct msg_status *status, struct mvm_error *err)
{
    int r = client_connect(v->home, PERSISTENT_NAME, &v->client, err);
    if (r == 0)
        r = client_status(v->client, status, clock_deadline(ANSWER_MS), err);
    if (r == 0 && vm_state_parse(status->state) != VM_STATE_READY)
        r = mvm_error_set(err, -EPIPE, "the persistent builder is %s", status->state);
    if (r == 0 && status->clients > MAX_CLIENTS_BUSY)
        r = mvm_error_set(err, -EBUSY, "the persistent builder serves %u others already",
                          (unsigned)status->clients - 1);
    if (r < 0)
        client_free(TAKE_PTR(v->client));
    return r;
}

static int start_it(struct builder_vm *v, int run, const struct builder_vm_opts *o, struct mvm_error *err)
{
    struct record r = {.started_at = clock_wall(), .idle_ms = o->idle_ms};
    struct msg_status status;
    snprintf(r.image, sizeof(r.image), "%s", o->image_digest);
    snprintf(r.network, sizeof(r.network), "%s", o->network);
    int e = builder_vm_boot_lasting(v, PERSISTENT_NAME, o, err);
    if (e == 0)
        e = record_save(run, &r, err);
    return e < 0 ? e : connect_to(v, &status, err);
}

/* It runs: take it, or replace it where it is of no use and nobody uses it. 1: start a new one. */
static int take_running(struct builder_vm *v, int run, const struct builder_vm_opts *o, struct mvm_error *err)
{
    struct msg_status status = {0};
    struct record r;
    int recorded = record_load(run, &r, err);
    if (recorded < 0 && recorded != -ENOENT)
        return recorded;
    int e = connect_to(v, &status, err);
    const char *differs = recorded < 0 || strcmp(r.image, o->image_digest) != 0 ? "runs another image"
                          : strcmp(r.network, o->network) != 0 ? "may reach other ports of this machine's loopback"
                                                               : NULL;
    if (e == -EBUSY || e == -EINTR || (e == 0 && !differs))
        return e;
    client_free(TAKE_PTR(v->client));
    if (e == 0 && status.clients > 1)
        return mvm_error_set(err, -EBUSY, "the persistent builder %s, for others", differs);
    bool ends = vm_state_parse(status.state) == VM_STATE_STOPPING;
    progress_verbose(v->progress, "the persistent builder is started anew: it %s",
                     ends    ? "has stopped by itself"
                     : e < 0 ? "does not answer"
                             : differs);
    e = machine_stop(v->home, PERSISTENT_NAME, e < 0 && !ends ? 0 : STOP_GRACE_MS, err);
    return e < 0 && e != -ENOENT ? e : 1;
}

int persistent_connect(struct builder_vm *v, const struct builder_vm_opts *o, struct mvm_error *err)
{
    CLEAN_FD int run = open_run(v->home, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct machine_info m;
    int r = run < 0 ? run : take_lock(&lock, run, v->progress, err);
    if (r < 0)
        return r;
    snprintf(v->name, sizeof(v->name), PERSISTENT_NAME);
    r = inspect(v->home, &m, err);
    if (r < 0)
        return r;
    r = r && m.running ? take_running(v, run, o, err) : 1;
    if (r == 1)
        r = start_it(v, run, o, err);
    return r;
}

int persistent_note(struct builder_vm *v, const char *workspace, int held, struct mvm_error *err)
{
    CLEAN_FD int run = open_run(v->home, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct record r;
    int e = run < 0 ? run : take_lock(&lock, run, v->progress, err);
    if (e < 0)
        return e;
    e = record_load(run, &r, err);
    if (e < 0 && e != -ENOENT)
        return e;
    if (e == -ENOENT)
        r = (struct record){.started_at = clock_wall(), .idle_ms = PERSISTENT_DEFAULT_IDLE_MS};
    e = 0;
    if (workspace)
        snprintf(r.workspace, sizeof(r.workspace), "%s", workspace);
    if (held >= 0) {
        r.held = held;
        e = client_set_idle(v->client, held ? 0 : r.idle_ms, clock_deadline(ANSWER_MS), err);
    }
    return e < 0 ? e : record_save(run, &r, err);
}

int persistent_end_unused(struct builder_vm *v, struct mvm_error *err)
{
    return client_set_idle(v->client, IDLE_AT_ONCE, clock_deadline(ANSWER_MS), err);
}

int persistent_stop(struct home *h, struct mvm_error *err)
{
    CLEAN_FD int run = open_run(h, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct machine_info m;
    int r = run < 0 ? run : take_lock(&lock, run, NULL, err);
    if (r < 0)
        return r;
    int there = inspect(h, &m, err);
    if (there < 0)
        return there;
    r = there ? machine_stop(h, PERSISTENT_NAME, STOP_GRACE_MS, err) : 0;
    if (r == 0)
        unlinkat(run, RECORD, 0);
    if (r == 0 && !(there && m.running)) {
        mvm_error_set(err, -ENOENT, "the builder does not run");
        mvm_error_hint(err, "mvmctl persistent-builder start, or a build, starts it");
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        return -ENOENT;
    }
    return r;
}
