#include "supervisor/vm_boot.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* A restore takes a tenth of a second; on a machine that starts fifty at once, seconds. */
#define RESTORE_MAX_MS 20000

static void watch_boot(struct vm *v);

/* ---- What the VMM says, and its end ---- */

static void on_console(void *owner, const void *p, size_t n)
{
    struct vm *v = owner;
    vm_note_heard(v);
    v->ops->console(v->owner, p, n);
}

/* A VMM that had loaded and ended by itself has refused the state. */
static enum vm_blame blame_of_end(const struct vm *v, const struct vmm_process *i)
{
    int status = i->process.status;
    bool refused = i->answered_at && WIFEXITED(status) && WEXITSTATUS(status);
    return v->stage == VM_SAVING || refused ? BLAME_SNAPSHOT : BLAME_UNKNOWN;
}

static void on_ended(void *owner, struct vmm_process *i)
{
    struct vm *v = owner;
    const bool ours = v->stage == VM_SAVING || v->stage == VM_RESTORING; /* the command under way */
    v->ending = true;
    if (!ours)
        vmm_process_drain(i);
    v->ending = false;
    const struct vmm_facts *facts = v->backend->facts(i->vmm);
    v->by_host = facts->ended_by_host;
    snprintf(v->problem, sizeof(v->problem), "%s", facts->problem);
    v->end_status = i->process.status;
    v->blame = blame_of_end(v, i);
    if (!ours)
        v->backend->ended(i->vmm);
    v->backend->mute(i->vmm);
    run_state_end(&v->processors);
    v->now = NULL;
    uv_timer_stop(&v->timer);
    (void)vm_happens(v, VM_E_DIED,
                     v->stage == VM_SAVING      ? "the backend ended while it saved the guest"
                     : v->stage == VM_RESTORING ? "the backend ended"
                                                : "the guest ended");
}

static const struct vmm_process_ops process_ops = {.console = on_console, .ended = on_ended};

/* ---- Booting ---- */

int vm_launch(struct vm *v, const struct vmm_source *source)
{
    struct vmm_process *i = NULL;
    uint64_t since = clock_now();
    run_state_end(&v->processors);
    v->now = NULL;
    int r = vmm_process_start(&i, v->loop, v->backend, v->launcher, v->run, source, v->dirfd, &process_ops, v,
                              v->ops->channel, v->owner, &v->error);
    if (r < 0)
        return r;
    steps_add(&v->steps, "spawn-vmm", since);
    v->now = i;
    run_state_begin(&v->processors, v->backend, i->vmm, &i->channel, source->restore);
    if (!source->restore)
        watch_boot(v);
    v->ops->changed(v->owner);
    return 0;
}

int vm_boot(struct vm *v)
{
    static const struct vmm_source plain = {.memory_fd = -1};
    if (v->now)
        vmm_process_discard(v->now);
    boot_snapshot_done(&v->snapshot);
    v->warm = false;
    return vm_launch(v, &plain);
}

void vm_note_steps(struct vm *v, const char *then)
{
    const struct vmm_process *i = v->now;
    steps_span(&v->steps, "vmm-load", i->spawned_at, i->answered_at ? i->answered_at : i->spawned_at);
    steps_add(&v->steps, then, i->answered_at ? i->answered_at : i->spawned_at);
    v->since = clock_now();
}

int vm_agent(struct vm *v)
{
    if (v->stage == VM_RESTORING)
        steps_add(&v->steps, "agent", v->since);
    else
        vm_note_steps(v, "boot");
    v->ops->agent(v->owner, v->hello);
    return 0;
}

/* ---- Restoring ---- */

int vm_boot_instead(struct vm *v)
{
    uv_timer_stop(&v->timer);
    bool keep = v->blame == BLAME_UNKNOWN && !boot_snapshot_failed(&v->snapshot, v->run->started_at);
    vm_say(v, "the snapshot is %s: %s", keep ? "kept, and not used" : "dropped", v->why);
    snprintf(v->cold_reason, sizeof(v->cold_reason), "restoring the snapshot failed: %s", v->why);
    if (!keep)
        boot_snapshot_remove(&v->snapshot);
    return vm_boot(v);
}

static void on_restore_timeout(uv_timer_t *t)
{
    struct vm *v = t->data;
    v->blame = BLAME_UNKNOWN;
    (void)vm_happens(v, VM_E_SILENT, "the guest did not answer in time");
}

static void on_loaded(void *owner, int r, const char *problem)
{
    struct vm *v = owner;
    v->blame = BLAME_SNAPSHOT;
    (void)vm_happens(v, r < 0 ? VM_E_REFUSED : VM_E_LOADED, problem);
}

int vm_restore(struct vm *v)
{
    const struct vmm_source source = {.memory_fd = v->snapshot.memory_fd, .restore = true};
    const struct vmm_done done = {.done = on_loaded, .owner = v};
    int r = vm_launch(v, &source);
    int taken = r == 0 ? v->backend->restore(v->now->vmm, v->snapshot.state_fd, v->run->state[0], done) : 0;
    /* One that has ended by now is heard of next. */
    if (taken < 0 && taken != -EPIPE)
        r = mvm_error_set(&v->error, -EIO, "the backend takes no state");
    /* Where there is nothing to do instead, only the user's patience counts. */
    if (r == 0 && !v->run->state[0])
        uv_timer_start(&v->timer, on_restore_timeout, MIN_OF(v->run->timeout_ms / 2, (uint64_t)RESTORE_MAX_MS), 0);
    return r;
}

int vm_restore_made(struct vm *v)
{
    if (vm_restore(v) < 0)
        (void)vm_happens(v, VM_E_REFUSED, v->error.msg);
    return 0;
}

int vm_loaded(struct vm *v)
{
    vm_note_steps(v, "restore");
    (void)!run_state_unhold(&v->processors, VM_HOLD_START, (struct vmm_done){0});
    if (v->backend->caps.keeps_agent) /* else it connects, and says so itself */
        v->ops->agent(v->owner, &v->snapshot.hello);
    return 0;
}

/* ---- Booting once more ---- */

/*
 * Linux patches its own code while it boots (jump labels: int3, the new bytes, both told to the other processors).
 * Under software emulation another processor may still execute the int3 as it was translated before, when the kernel no
 * longer expects it: about one boot in a hundred of guests with several processors panics, or, where the console is not
 * there yet, says nothing at all.
 */
bool vm_may_boot_again(const struct vm *v)
{
    return !v->spoke && !v->again && !v->stopping && v->run->vcpus > 1 && vmm_accel_emulates(&v->run->accel) &&
           (v->now || (v->end_status == 0 && !v->by_host));
}

int vm_boot_again(struct vm *v)
{
    vm_say(v,
           "%s before its agent spoke, which happens under software emulation with several processors: booting again",
           v->why);
    v->again = true;
    return vm_boot(v);
}

static void on_silence(uv_timer_t *t)
{
    (void)vm_happens(t->data, VM_E_SILENT, "the guest said nothing on its console");
}

static void watch_boot(struct vm *v)
{
    v->heard = false;
    if (vm_may_boot_again(v))
        uv_timer_start(&v->timer, on_silence, v->run->timeout_ms / 2, 0);
}

void vm_note_heard(struct vm *v)
{
    if (!v->heard && (v->stage == VM_PLAIN || v->stage == VM_MAKING))
        uv_timer_stop(&v->timer);
    v->heard = true;
}
