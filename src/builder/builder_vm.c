#include "builder/builder_vm.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUILDER_MEMORY_MIB 2048
#define BUILDER_TIMEOUT_MS 120000
#define CHECK_TIMEOUT_MS   1800000 /* checking a large store takes its time */
#define ENDED_SOON_MS      30000   /* a VM that ended sooner than this is tried once more */

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

/* The VM that v's store goes to. cold: without a snapshot. */
static int start_machine(struct builder_vm *v, const struct builder_vm_opts *o, bool stays, bool cold,
                         struct machine_info *ret, struct mvm_error *err)
{
    const struct machine_config c = {
        .name = v->name,
        .role = VM_ROLE_BUILDER,
        .image = o->image,
        .image_digest = "",
        .store_disk = v->store.path,
        .store_check = v->store.check,
        .hostname = "builder",
        .network = o->network,
        .memory_mib = o->memory_mib ? o->memory_mib : default_memory(),
        .vcpus = o->vcpus ? o->vcpus : default_vcpus(),
        .timeout_ms = v->store.check ? CHECK_TIMEOUT_MS : BUILDER_TIMEOUT_MS,
        .idle_ms = stays ? o->idle_ms : 0,
        .hold_fd = stays ? v->store.lock.fd : 0,
        .transient = !stays,
        .cold = cold,
    };
    if (c.store_check)
        progress_detail(v->progress, "checking the builder's store, which was not closed in order");
    int r = machine_start(v->home, &c, v->progress, ret, err);
    for (unsigned i = 0; v->progress->steps && i < ret->steps.n; i++)
        steps_span(v->progress->steps, ret->steps.v[i].name, ret->steps.v[i].start, ret->steps.v[i].end);
    /* From the user's view the builder failed, whatever backend runs it. */
    if (r < 0 && err)
        err->phase = MVM_PHASE_BUILDER_BOOTSTRAP;
    else if (store_health_parse(ret->status.store) == STORE_REPAIRED)
        progress_verbose(v->progress, "the builder's store was repaired");
    return r;
}

int builder_vm_boot(struct builder_vm *v, const struct builder_vm_opts *o, bool stays, struct mvm_error *err)
{
    struct machine_info info = {.tether = -1};
    uint64_t patience = clock_deadline(ENDED_SOON_MS);
    bool rebuilt = false, again = false;
    int r;
    for (;;) {
        struct mvm_error why = MVM_ERROR_INIT;
        r = start_machine(v, o, stays, again, &info, &why);
        if (r < 0 && !rebuilt && store_health_parse(info.status.store) == STORE_BROKEN) {
            rebuilt = true;
            r = store_disk_rebuild(&v->store, v->progress, err);
            if (r < 0)
                break;
        } else if ((r == -ECHILD || r == -EPIPE) && !again && clock_now() < patience) {
            again = true;
            progress_note(v->progress, "%s; starting it once more", why.msg);
            progress_verbose_lines(v->progress, why.detail);
        } else {
            if (r < 0)
                *err = why;
            break;
        }
    }
    v->tether = info.tether;
    return r;
}

int builder_vm_boot_lasting(struct builder_vm *v, const char *name, const struct builder_vm_opts *o,
                            struct mvm_error *err)
{
    snprintf(v->name, sizeof(v->name), "%s", name);
    int r = store_disk_open(&v->store, v->home, o->store_cap, true, v->progress, err);
    if (r == 0)
        r = builder_vm_boot(v, o, true, err);
    if (r == 0)
        r = store_disk_leave(&v->store, err);
    store_disk_close(&v->store);
    return r;
}
