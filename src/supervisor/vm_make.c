/* Making a snapshot of a VM that boots, and continuing from it (vm.h). */
#include "base/clock.h"
#include "base/fd.h"
#include "supervisor/vm_boot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>

#define MAKER_END_MS 10000
#define MAKER_STAYS  "the VMM that wrote it does not end"

int vm_make(struct vm *v)
{
    const struct vmm_source source = {
        .memory_fd = v->snapshot.memory_fd, .share = true, .store_path = v->snapshot.store_path};
    return vm_launch(v, &source);
}

/* ---- Saving ---- */

static void on_saved(void *owner, int r, const char *problem)
{
    struct vm *v = owner;
    v->blame = BLAME_SNAPSHOT;
    /* Bytes on their way belong to no state: neither to the saved guest, which has sent them, nor to the host's. */
    if (r == 0 && !v->stopping && !vmm_process_is_silent(v->now))
        (void)vm_happens(v, VM_E_NOT_MEASURED, "the guest was speaking while it was saved");
    else
        (void)vm_happens(v, r < 0 ? VM_E_NOT_SAVED : VM_E_SAVED, problem);
}

int vm_save(struct vm *v)
{
    v->snapshot.hello = *v->hello;
    vm_note_steps(v, "boot");
    const struct vmm_done done = {.done = on_saved, .owner = v};
    if (run_state_save(&v->processors, v->snapshot.state_fd, false, done) < 0)
        (void)vm_happens(v, VM_E_NOT_SAVED, "the backend takes no command");
    return 0;
}

static void give_up(struct vm *v)
{
    vm_say(v, "no snapshot is made: %s", v->why);
    uv_timer_stop(&v->timer);
}

int vm_keep_unsaved(struct vm *v)
{
    const struct msg_hello hello = v->snapshot.hello;
    give_up(v);
    boot_snapshot_done(&v->snapshot);
    (void)!run_state_unhold(&v->processors, VM_HOLD_SAVE, (struct vmm_done){0});
    v->ops->agent(v->owner, &hello);
    return 0;
}

int vm_boot_unsaved(struct vm *v)
{
    give_up(v);
    return vm_boot(v);
}

/* ---- Measuring: before the guest goes on, so that nothing it does is in the digests ---- */

/* Until its end the VMM that was saved has the memory mapped for writing. */
static void measure(uv_work_t *w)
{
    struct vm *v = w->data;
    struct pollfd p = {.fd = v->maker_fd, .events = POLLIN};
    v->work_failed = poll(&p, 1, MAKER_END_MS) > 0 ? boot_snapshot_measure(&v->snapshot, &v->work_error) < 0
                                                   : mvm_error_set(&v->work_error, -ETIMEDOUT, MAKER_STAYS) < 0;
}

static void on_measured(uv_work_t *w, int status)
{
    struct vm *v = w->data;
    fd_closep(&v->maker_fd);
    if (!v->stopping)
        steps_add(&v->steps, "measure", v->since);
    v->blame = BLAME_SNAPSHOT;
    (void)vm_happens(v, v->work_failed ? VM_E_NOT_MEASURED : VM_E_MEASURED, v->work_error.msg);
}

int vm_measure(struct vm *v)
{
    const struct msg_hello hello = v->snapshot.hello;
    steps_add(&v->steps, "save", v->since);
    v->since = clock_now();
    boot_snapshot_saved(&v->snapshot, &hello);
    v->maker_fd = fcntl(v->now->process.pidfd, F_DUPFD_CLOEXEC, 3);
    run_state_end(&v->processors);
    vmm_process_discard(v->now);
    v->now = NULL;
    v->work.data = v;
    if (v->maker_fd < 0 || uv_queue_work(v->loop, &v->work, measure, on_measured) < 0)
        (void)vm_happens(v, VM_E_NOT_MEASURED, "it cannot be hashed");
    return 0;
}

/* ---- Sealing ---- */

static void seal(uv_work_t *w)
{
    struct vm *v = w->data;
    v->work_failed = boot_snapshot_seal(&v->snapshot, &v->work_error) < 0;
}

static void on_sealed(uv_work_t *w, int status)
{
    struct vm *v = w->data;
    v->sealing = false;
    if (v->work_failed)
        vm_say(v, "the snapshot is not kept: %s", v->work_error.msg);
    else
        vm_say(v, "the snapshot is kept");
    boot_snapshot_done(&v->snapshot);
    if (!v->now)
        v->ops->settled(v->owner);
}

int vm_seal(struct vm *v)
{
    uv_timer_stop(&v->timer);
    if (!v->run->state[0] && !v->snapshot.staged)
        boot_snapshot_worked(&v->snapshot);
    v->work.data = v;
    v->sealing = v->snapshot.staged && uv_queue_work(v->loop, &v->work, seal, on_sealed) == 0;
    if (!v->sealing)
        boot_snapshot_done(&v->snapshot);
    return 0;
}
