#include "builder/builder_session.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "builder/persistent.h"
#include "cache/config.h"
#include "image/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUILDER_MEMORY_MIB 2048
#define BUILDER_TIMEOUT_MS 120000
#define CHECK_TIMEOUT_MS   1800000 /* checking a large store takes its time */
#define STOP_GRACE_MS      20000
#define ENDED_SOON_MS      30000 /* a VM that ended sooner than this is tried once more */

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

/* The VM that the session's store goes to. cold: without a snapshot. */
static int start_machine(struct builder_session *s, const struct builder_session_opts *o, bool stays, bool cold,
                         struct machine_info *ret, struct mvm_error *err)
{
    const struct machine_config c = {
        .name = s->name,
        .role = "builder",
        .image = o->image,
        .image_digest = "",
        .store_disk = s->store.path,
        .store_check = s->store.check,
        .hostname = "builder",
        .memory_mib = o->memory_mib ? o->memory_mib : default_memory(),
        .vcpus = o->vcpus ? o->vcpus : default_vcpus(),
        .timeout_ms = s->store.check ? CHECK_TIMEOUT_MS : BUILDER_TIMEOUT_MS,
        .idle_ms = stays ? o->idle_ms : 0,
        .hold_fd = stays ? s->store.lock.fd : 0,
        .transient = !stays,
        .cold = cold,
    };
    if (c.store_check)
        progress_detail(s->progress, "checking the builder's store, which was not closed in order");
    int r = machine_start(s->home, &c, s->progress, ret, err);
    for (unsigned i = 0; s->progress->steps && i < ret->steps.n; i++)
        steps_span(s->progress->steps, ret->steps.v[i].name, ret->steps.v[i].start, ret->steps.v[i].end);
    /* From the user's view the builder failed, whatever backend runs it. */
    if (r < 0 && err)
        err->phase = MVM_PHASE_BUILDER_BOOTSTRAP;
    else if (strcmp(ret->status.store, STORE_REPAIRED) == 0)
        progress_verbose(s->progress, "the builder's store was repaired");
    return r;
}

static void say_lines(struct progress *p, const char *text)
{
    for (size_t n; *text; text += n + (text[n] == '\n')) {
        n = strcspn(text, "\n");
        progress_verbose(p, "%.*s", (int)n, text);
    }
}

/* The store is made anew once where the guest finds it beyond repair. A VM that ended before it was ready (the VMM may
 * crash, or the guest) is started once more, without the snapshot, in case that is to blame. */
static int boot(struct builder_session *s, const struct builder_session_opts *o, bool stays, struct mvm_error *err)
{
    struct machine_info info = {.tether = -1};
    uint64_t patience = clock_deadline(ENDED_SOON_MS);
    bool rebuilt = false, again = false;
    int r;
    for (;;) {
        struct mvm_error why = MVM_ERROR_INIT;
        r = start_machine(s, o, stays, again, &info, &why);
        if (r < 0 && !rebuilt && strcmp(info.status.store, STORE_BROKEN) == 0) {
            rebuilt = true;
            r = store_disk_rebuild(&s->store, s->progress, err);
            if (r < 0)
                break;
        } else if ((r == -ECHILD || r == -EPIPE) && !again && clock_now() < patience) {
            again = true;
            progress_note(s->progress, "%s; starting it once more", why.msg);
            say_lines(s->progress, why.detail);
        } else {
            if (r < 0)
                *err = why;
            break;
        }
    }
    s->tether = info.tether;
    return r;
}

int builder_session_boot_persistent(struct builder_session *s, const char *name, const struct builder_session_opts *o,
                                    struct mvm_error *err)
{
    snprintf(s->name, sizeof(s->name), "%s", name);
    int r = store_disk_open(&s->store, s->home, o->store_cap, true, s->progress, err);
    if (r == 0)
        r = boot(s, o, true, err);
    if (r == 0)
        r = store_disk_leave(&s->store, err);
    store_disk_close(&s->store);
    return r;
}

/* ---- A builder of the session's own ---- */

/* The store, or a copy where the persistent builder has it. */
static int take_store(struct builder_session *s, uint64_t cap, struct mvm_error *err)
{
    CLEAN_CLIENT struct client *c = NULL;
    struct mvm_error why = MVM_ERROR_INIT;
    int r = store_disk_open(&s->store, s->home, cap, false, s->progress, &why);
    if (r == 0)
        return 0;
    store_disk_close(&s->store);
    if (r != -EAGAIN)
        *err = why;
    if (r != -EAGAIN)
        return r;
    if (client_connect(s->home, PERSISTENT_NAME, &c, NULL) == 0) {
        r = store_disk_open_copy(&s->store, s->home, cap, c, s->progress, err);
        if (r != -EPIPE && r != -EPROTO)
            return r;
        store_disk_close(&s->store); /* it was on its way out */
    }
    return store_disk_open(&s->store, s->home, cap, true, s->progress, err);
}

static int start_single(struct builder_session *s, const struct builder_session_opts *o, struct mvm_error *err)
{
    snprintf(s->name, sizeof(s->name), PERSISTENT_NAME "-%d", getpid());
    int r = take_store(s, o->store_cap, err);
    if (r == 0)
        r = boot(s, o, false, err);
    if (r == 0)
        r = client_connect(s->home, s->name, &s->client, err);
    if (r == 0 && store_disk_is_full(&s->store))
        store_disk_tidy(&s->store, s->client, s->progress);
    return r;
}

/* ---- Either ---- */

/* 0, or 1 where a builder of its own is to be started. */
static int try_persistent(struct builder_session *s, const struct builder_session_opts *o, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = persistent_connect(s, o, &why);
    if (r == 0) {
        s->persistent = true;
        return store_disk_attach(&s->store, s->home, o->store_cap, err);
    }
    /* What a second try of the same cannot mend. */
    if (r == -EINTR || r == -ENOSPC || why.phase == MVM_PHASE_CONFIG) {
        *err = why;
        return r;
    }
    snprintf(s->fallback_reason, sizeof(s->fallback_reason), "%.255s", why.msg);
    progress_note(s->progress, "building in a builder of its own: %s", s->fallback_reason);
    return 1;
}

static int start(struct builder_session *s, const struct builder_session_opts *o, struct mvm_error *err)
{
    progress_phase(s->progress, "builder-start");
    local_kernels_load(&s->known, s->home, o->image);
    CLEAN_FREE char *rootfs = path_join(o->image, artifact_name(ARTIFACT_ROOTFS), NULL);
    int r = rootfs ? registry_load(&s->flakes, rootfs, err) : mvm_error_errno(err, -ENOMEM, "builder");
    if (r == 0 && !o->single_shot) {
        r = try_persistent(s, o, err);
        if (r <= 0)
            return r;
        r = 0;
    }
    return r < 0 ? r : start_single(s, o, err);
}

/* What the caller leaves open, config.toml says. */
static int fill_in(struct builder_session_opts *o, struct home *h, struct mvm_error *err)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    int r = config_load(&c, h, err);
    if (r < 0)
        return r;
    o->idle_ms = (uint64_t)c.idle_timeout * 1000;
    o->single_shot = o->single_shot || !c.persistent;
    o->memory_mib = o->memory_mib ? o->memory_mib : c.builder_memory >> 20;
    o->vcpus = o->vcpus ? o->vcpus : (unsigned)c.builder_cpus;
    return store_disk_cap(c.store_size, &o->store_cap, err);
}

int builder_session_start(struct builder_session *s, struct home *h, const struct builder_session_opts *opts,
                          struct progress *p, struct mvm_error *err)
{
    struct builder_session_opts o = *opts;
    s->home = h;
    s->progress = p;
    int r = fill_in(&o, h, err);
    if (r == 0)
        r = start(s, &o, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        mvm_error_hint(err, "mvmctl doctor checks what a build needs");
    }
    return r;
}

void builder_session_done(struct builder_session *s)
{
    /* Beside others' builds only what is necessary. */
    if (!s->persistent || store_disk_is_full(&s->store))
        store_disk_tidy(&s->store, s->client, s->progress);
    client_free(TAKE_PTR(s->client));
    local_kernels_done(&s->known);
    /* In an orderly way whatever came before: the store's disk is to be clean for the next builder. */
    if (s->tether >= 0)
        (void)!machine_stop(s->home, s->name, STOP_GRACE_MS, NULL);
    fd_closep(&s->tether);
    store_disk_close(&s->store);
}
