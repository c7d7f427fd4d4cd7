#include "builder/persistent.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "cache/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RUN_FOLDER       "run"
#define RECORD           "persistent-builder.json"
#define LOCK             "persistent-builder.lock"
#define MAX_RECORD       65536
#define ANSWER_MS        3000
#define STOP_GRACE_MS    20000
#define MAX_CLIENTS_BUSY 48 /* of the supervisor's 64 connections: beyond it a build gets a builder of its own */

/* ---- The record ---- */

struct record {
    char image[65];
    char workspace[4096];
    uint64_t started_at, idle_ms;
    bool held;
};

static int record_load(int run, struct record *r)
{
    CLEAN_JSON json_object *o = NULL;
    const char *image = "", *workspace = "";
    int64_t schema = 0, started = 0, idle = 0;
    json_object *held = NULL;
    *r = (struct record){0};
    int e = json_load(run, RECORD, MAX_RECORD, &o, NULL);
    if (e == 0)
        e = json_get_int(o, "schema_version", &schema, NULL);
    if (e == 0)
        e = json_get_string(o, "image", &image, NULL);
    if (e == 0)
        e = json_get_string(o, "workspace", &workspace, NULL);
    if (e == 0)
        e = json_get_int(o, "started_at", &started, NULL);
    if (e == 0)
        e = json_get_int(o, "idle_ms", &idle, NULL);
    if (e < 0 || schema != 1)
        return e < 0 ? e : -EINVAL;
    snprintf(r->image, sizeof(r->image), "%s", image);
    snprintf(r->workspace, sizeof(r->workspace), "%s", workspace);
    r->started_at = (uint64_t)started;
    r->idle_ms = (uint64_t)idle;
    r->held = json_object_object_get_ex(o, "held", &held) && json_object_get_boolean(held);
    return 0;
}

static int record_save(int run, const struct record *r, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", 1);
    json_add_string(o, "vm", PERSISTENT_NAME);
    json_add_string(o, "image", r->image);
    json_add_string(o, "workspace", r->workspace);
    json_add_int(o, "started_at", (int64_t)r->started_at);
    json_add_int(o, "idle_ms", (int64_t)r->idle_ms);
    json_add_bool(o, "held", r->held);
    return json_save(run, RECORD, o, 0600, false, err);
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

static bool runs(const struct machine_info *m)
{
    return strcmp(m->state, "stopped") != 0 && strcmp(m->state, "failed") != 0;
}

int persistent_status(struct home *h, struct persistent_status *ret, struct mvm_error *err)
{
    struct machine_info m;
    struct record r;
    *ret = (struct persistent_status){.state = "absent"};
    CLEAN_FD int run = open_run(h, err);
    if (run < 0)
        return run;
    bool there = machine_inspect(h, PERSISTENT_NAME, &m, NULL) == 0 && runs(&m);
    bool recorded = record_load(run, &r) == 0;
    if (!there) {
        /* A record that somebody writes right now belongs to a VM that somebody starts right now. */
        CLEAN_LOCK struct lock lock = LOCK_INIT;
        if (faccessat(run, RECORD, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
            lock_take(&lock, run, LOCK, "looking", NULL, NULL) == 0)
            ret->stale = unlinkat(run, RECORD, 0) == 0;
        return 0;
    }
    snprintf(ret->state, sizeof(ret->state), "%s", m.state);
    snprintf(ret->mode, sizeof(ret->mode), "%s", m.status.mode);
    ret->clients = m.status.clients > 0 ? (unsigned)m.status.clients - 1 : 0;
    ret->idle_ms = m.status.idle_ms;
    ret->started_at = m.started_at;
    ret->supervisor = m.supervisor;
    ret->memory_mib = m.memory_mib;
    ret->vcpus = m.vcpus;
    if (recorded) {
        snprintf(ret->image, sizeof(ret->image), "%s", r.image);
        snprintf(ret->workspace, sizeof(ret->workspace), "%s", r.workspace);
        ret->held = r.held;
    }
    return 0;
}

/* ---- Using it ---- */

/* Asks the supervisor for its state: 0 with the connection, -EBUSY where too many have one. */
static int connect_to(struct session *s, struct msg_status *status, struct mvm_error *err)
{
    int r = client_connect(s->home, PERSISTENT_NAME, &s->client, err);
    if (r == 0)
        r = client_status(s->client, status, clock_deadline(ANSWER_MS), err);
    if (r == 0 && strcmp(status->state, "ready") != 0)
        r = mvm_error_set(err, -EPIPE, "the persistent builder is %s", status->state);
    if (r == 0 && status->clients > MAX_CLIENTS_BUSY)
        r = mvm_error_set(err, -EBUSY, "the persistent builder serves %u others already",
                          (unsigned)status->clients - 1);
    if (r < 0)
        client_free(TAKE_PTR(s->client));
    return r;
}

static int start_it(struct session *s, int run, const struct session_opts *o, struct mvm_error *err)
{
    struct record r = {.started_at = clock_wall(), .idle_ms = o->idle_ms};
    struct msg_status status;
    snprintf(r.image, sizeof(r.image), "%s", o->image_digest);
    int e = session_boot_persistent(s, PERSISTENT_NAME, o, err);
    if (e == 0)
        e = record_save(run, &r, err);
    return e < 0 ? e : connect_to(s, &status, err);
}

/* It runs: take it, or replace it where it is of no use and nobody uses it. 1: start a new one. */
static int take_running(struct session *s, int run, const struct session_opts *o, struct mvm_error *err)
{
    struct msg_status status = {0};
    struct record r;
    int e = connect_to(s, &status, err);
    bool same = record_load(run, &r) == 0 && strcmp(r.image, o->image_digest) == 0;
    if (e == -EBUSY || e == -EINTR || (e == 0 && same))
        return e;
    client_free(TAKE_PTR(s->client));
    if (e == 0 && status.clients > 1)
        return mvm_error_set(err, -EBUSY, "the persistent builder runs another image, for others");
    progress_verbose(s->progress, "the persistent builder is started anew: %s",
                     e < 0 ? "it does not answer" : "it runs another image");
    e = machine_stop(s->home, PERSISTENT_NAME, e < 0 ? 0 : STOP_GRACE_MS, err);
    return e < 0 && e != -ENOENT ? e : 1;
}

int persistent_connect(struct session *s, const struct session_opts *o, struct mvm_error *err)
{
    CLEAN_FD int run = open_run(s->home, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct machine_info m;
    int r = run < 0 ? run : take_lock(&lock, run, s->progress, err);
    if (r < 0)
        return r;
    r = 1;
    if (machine_inspect(s->home, PERSISTENT_NAME, &m, NULL) == 0 && runs(&m))
        r = take_running(s, run, o, err);
    if (r == 1)
        r = start_it(s, run, o, err);
    return r;
}

int persistent_note(struct session *s, const char *workspace, int held, struct mvm_error *err)
{
    CLEAN_FD int run = open_run(s->home, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct record r;
    int e = run < 0 ? run : take_lock(&lock, run, s->progress, err);
    if (e < 0)
        return e;
    if (record_load(run, &r) < 0)
        r = (struct record){.started_at = clock_wall(), .idle_ms = PERSISTENT_DEFAULT_IDLE_MS};
    if (workspace)
        snprintf(r.workspace, sizeof(r.workspace), "%s", workspace);
    if (held >= 0) {
        r.held = held;
        e = client_set_idle(s->client, held ? 0 : r.idle_ms, clock_deadline(ANSWER_MS), err);
    }
    return e < 0 ? e : record_save(run, &r, err);
}

int persistent_stop(struct home *h, struct mvm_error *err)
{
    CLEAN_FD int run = open_run(h, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct machine_info m;
    int r = run < 0 ? run : take_lock(&lock, run, NULL, err);
    if (r < 0)
        return r;
    bool there = machine_inspect(h, PERSISTENT_NAME, &m, NULL) == 0;
    r = there ? machine_stop(h, PERSISTENT_NAME, STOP_GRACE_MS, err) : 0;
    unlinkat(run, RECORD, 0);
    if (r == 0 && !(there && runs(&m))) {
        mvm_error_set(err, -ENOENT, "the builder does not run");
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        return -ENOENT;
    }
    return r;
}
