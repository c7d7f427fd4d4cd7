#include "builder/builder_session.h"
#include "base/fd.h"
#include "base/path.h"
#include "builder/persistent.h"
#include "cache/config.h"
#include "image/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STOP_GRACE_MS 20000

/* ---- A builder of the session's own ---- */

/* The store, or a copy where the persistent builder has it. */
static int take_store(struct builder_session *s, uint64_t cap, struct mvm_error *err)
{
    CLEAN_CLIENT struct client *c = NULL;
    struct mvm_error why = MVM_ERROR_INIT;
    int r = store_disk_open(&s->vm.store, s->vm.home, cap, false, s->vm.progress, &why);
    if (r == 0)
        return 0;
    store_disk_close(&s->vm.store);
    if (r != -EAGAIN)
        *err = why;
    if (r != -EAGAIN)
        return r;
    if (client_connect(s->vm.home, PERSISTENT_NAME, &c, NULL) == 0) {
        r = store_disk_open_copy(&s->vm.store, s->vm.home, cap, c, s->vm.progress, err);
        if (r != -EPIPE && r != -EPROTO)
            return r;
        store_disk_close(&s->vm.store); /* it was on its way out */
    }
    return store_disk_open(&s->vm.store, s->vm.home, cap, true, s->vm.progress, err);
}

static int start_single(struct builder_session *s, const struct builder_vm_opts *o, struct mvm_error *err)
{
    snprintf(s->vm.name, sizeof(s->vm.name), PERSISTENT_NAME "-%d", getpid());
    int r = take_store(s, o->store_cap, err);
    if (r == 0)
        r = builder_vm_boot(&s->vm, o, false, err);
    if (r == 0)
        r = client_connect(s->vm.home, s->vm.name, &s->vm.client, err);
    if (r == 0 && store_disk_is_full(&s->vm.store))
        store_disk_tidy(&s->vm.store, s->vm.client, s->vm.progress);
    return r;
}

/* ---- Either ---- */

/* 0, or 1 where a builder of its own is to be started. */
static int try_persistent(struct builder_session *s, const struct builder_vm_opts *o, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = persistent_connect(&s->vm, o, &why);
    if (r == 0) {
        s->persistent = true;
        return store_disk_attach(&s->vm.store, s->vm.home, o->store_cap, err);
    }
    /* What a second try of the same cannot mend. */
    if (r == -EINTR || r == -ENOSPC || why.phase == MVM_PHASE_CONFIG) {
        *err = why;
        return r;
    }
    snprintf(s->fallback_reason, sizeof(s->fallback_reason), "%.255s", why.msg);
    progress_note(s->vm.progress, "building in a builder of its own: %s", s->fallback_reason);
    return 1;
}

static int start(struct builder_session *s, const struct builder_vm_opts *o, struct mvm_error *err)
{
    progress_phase(s->vm.progress, "builder-start");
    local_kernels_load(&s->known, s->vm.home, o->image);
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
static int fill_in(struct builder_vm_opts *o, struct home *h, struct mvm_error *err)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    int r = config_load(&c, h, err);
    if (r < 0)
        return r;
    o->idle_ms = (uint64_t)c.idle_timeout * 1000;
    o->single_shot = o->single_shot || !c.persistent;
    o->memory_mib = o->memory_mib ? o->memory_mib : c.builder_memory >> 20;
    o->vcpus = o->vcpus ? o->vcpus : (unsigned)c.builder_cpus;
    r = builder_network(&c, o->network, err);
    return r < 0 ? r : store_disk_cap(c.store_size, &o->store_cap, err);
}

int builder_session_check(struct home *h, struct mvm_error *err)
{
    return fill_in(&(struct builder_vm_opts){0}, h, err);
}

int builder_session_start(struct builder_session *s, struct home *h, const struct builder_vm_opts *opts,
                          struct progress *p, struct mvm_error *err)
{
    struct builder_vm_opts o = *opts;
    s->vm.home = h;
    s->vm.progress = p;
    int r = fill_in(&o, h, err);
    if (r == 0)
        r = start(s, &o, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        store_disk_hint_host(s->vm.store.dirfd >= 0 ? s->vm.store.dirfd : h->cache_fd, err);
        mvm_error_hint(err, "mvmctl doctor checks what a build needs");
    }
    return r;
}

void builder_session_done(struct builder_session *s)
{
    /* Beside others' builds only what is necessary. */
    if (!s->persistent || store_disk_is_full(&s->vm.store))
        store_disk_tidy(&s->vm.store, s->vm.client, s->vm.progress);
    client_free(TAKE_PTR(s->vm.client));
    local_kernels_done(&s->known);
    /* In an orderly way whatever came before: the store's disk is to be clean for the next builder. */
    if (s->vm.tether >= 0)
        (void)!machine_stop(s->vm.home, s->vm.name, STOP_GRACE_MS, NULL);
    fd_closep(&s->vm.tether);
    store_disk_close(&s->vm.store);
}
