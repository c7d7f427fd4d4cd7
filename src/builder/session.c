#include "builder/session.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUILDER_MEMORY_MIB 2048
#define BUILDER_TIMEOUT_MS 120000
#define CHECK_TIMEOUT_MS   1800000 /* checking a large store takes its time */
#define STOP_GRACE_MS      20000

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

static int start_machine(struct session *s, const struct session_opts *o, struct progress *p, struct machine_info *ret,
                         struct mvm_error *err)
{
    snprintf(s->name, sizeof(s->name), "builder-%d", getpid());
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
        .transient = true,
    };
    if (c.store_check)
        progress_detail(p, "checking the builder's store, which was not closed in order");
    int r = machine_start(s->home, &c, p, ret, err);
    /* From the user's view the builder failed, whatever backend runs it. */
    if (r < 0 && err)
        err->phase = MVM_PHASE_BUILDER_BOOTSTRAP;
    else if (strcmp(ret->status.store, STORE_REPAIRED) == 0)
        progress_verbose(p, "the builder's store was repaired");
    return r;
}

static int start(struct session *s, struct home *h, const struct session_opts *o, struct progress *p,
                 struct mvm_error *err)
{
    progress_phase(p, "builder-start");
    CLEAN_FREE char *rootfs = path_join(o->image, artifact_name(ARTIFACT_ROOTFS), NULL);
    uint64_t cap = 0;
    int r = rootfs ? provided_flakes_load(&s->flakes, rootfs, err) : mvm_error_errno(err, -ENOMEM, "builder");
    if (r == 0)
        r = store_cap(o->store_cap, &cap, err);
    if (r == 0)
        r = store_open(&s->store, h, cap, p, err);
    if (r < 0)
        return r;
    struct machine_info info = {0};
    r = start_machine(s, o, p, &info, err);
    if (r < 0 && strcmp(info.status.store, STORE_BROKEN) == 0) {
        r = store_rebuild(&s->store, p, err);
        if (r == 0)
            r = start_machine(s, o, p, &info, err);
    }
    if (r < 0)
        return r;
    s->tether = info.tether;
    r = client_connect(h, s->name, &s->client, err);
    if (r == 0 && store_is_full(&s->store))
        store_tidy(&s->store, s->client, p);
    return r;
}

int session_start(struct session *s, struct home *h, const struct session_opts *o, struct progress *p,
                  struct mvm_error *err)
{
    s->home = h;
    s->progress = p;
    int r = start(s, h, o, p, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        mvm_error_hint(err, "mvmctl doctor checks what a build needs");
    }
    return r;
}

void session_done(struct session *s)
{
    store_tidy(&s->store, s->client, s->progress);
    client_free(TAKE_PTR(s->client));
    /* In an orderly way whatever came before: the store's disk is to be clean for the next builder. */
    if (s->tether >= 0)
        (void)!machine_stop(s->home, s->name, STOP_GRACE_MS, NULL);
    fd_closep(&s->tether);
    store_close(&s->store);
}
