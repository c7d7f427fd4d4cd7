#include "supervisor/vm.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* A restore takes a tenth of a second; on a machine that starts fifty at once, seconds. */
#define RESTORE_MAX_MS 20000
#define SETTLE_MS      3000
#define MAKER_END_MS   10000
#define MAKER_STAYS    "the VMM that wrote it does not end"

static const struct vmm_process_ops vmm_process_ops;

static void say(struct vm *v, const char *fmt, ...) MVM_PRINTF(2, 3);
static void say(struct vm *v, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    v->ops->log(v->owner, line);
}

static void watch_boot(struct vm *v);

static int start(struct vm *v, enum vm_stage stage, const struct vmm_source *source, struct mvm_error *err)
{
    v->now = NULL;
    v->stage = stage;
    struct vmm_process *i = NULL;
    uint64_t since = clock_now();
    int r = vmm_process_start(&i, v->loop, v->backend, v->launcher, source, v->dirfd, &vmm_process_ops, v,
                              v->ops->channel, v->owner, err);
    if (r < 0)
        return r;
    steps_add(&v->steps, "spawn-vmm", since);
    v->now = i;
    if (stage != VM_RESTORING)
        watch_boot(v);
    v->ops->changed(v->owner);
    return 0;
}

static int start_plain(struct vm *v, struct mvm_error *err)
{
    static const struct vmm_source plain = {.memory_fd = -1};
    boot_snapshot_done(&v->snapshot);
    v->warm = false;
    return start(v, VM_PLAIN, &plain, err);
}

/* How long it took the VMM to load, and then to get the guest to where it is now. */
static void note_vmm(struct vm *v, const char *then)
{
    const struct vmm_process *i = v->now;
    steps_span(&v->steps, "vmm-load", i->spawned_at, i->answered_at ? i->answered_at : i->spawned_at);
    steps_add(&v->steps, then, i->answered_at ? i->answered_at : i->spawned_at);
    v->since = clock_now();
}

/* ---- Restoring ---- */

/* Whose fault it is that a snapshot was not restored. */
enum blame {
    BLAME_SNAPSHOT, /* the VMM refused it */
    BLAME_UNKNOWN,  /* or the host's, which has too much to do, or another process', which ended the VMM */
};

/* Another try, without snapshot; but not where what is in it would be lost. */
static void boot_instead(struct vm *v, enum blame blame, const char *why)
{
    struct mvm_error err = MVM_ERROR_INIT;
    uv_timer_stop(&v->timer);
    if (v->run->state[0]) {
        v->ops->lost(v->owner, why);
        return;
    }
    bool keep = blame == BLAME_UNKNOWN && !boot_snapshot_failed(&v->snapshot, v->run->started_at);
    say(v, "the snapshot is %s: %s", keep ? "kept, and not used" : "dropped", why);
    snprintf(v->cold_reason, sizeof(v->cold_reason), "restoring the snapshot failed: %s", why);
    if (!keep)
        boot_snapshot_remove(&v->snapshot);
    if (v->now)
        vmm_process_discard(v->now);
    if (start_plain(v, &err) < 0) {
        say(v, "%s", err.msg);
        v->ops->ended(v->owner, -1);
    }
}

static void on_restore_timeout(uv_timer_t *t)
{
    boot_instead(t->data, BLAME_UNKNOWN, "the guest did not answer in time");
}

static int start_restored(struct vm *v, struct mvm_error *err)
{
    const struct vmm_source source = {.memory_fd = v->snapshot.memory_fd, .restore = true};
    int r = start(v, VM_RESTORING, &source, err);
    if (r == 0)
        r = v->backend->restore(v->now->control_fd, v->snapshot.state_fd, v->run->state[0]);
    /* Where there is nothing to do instead, only the user's patience counts. */
    if (r == 0 && !v->run->state[0])
        uv_timer_start(&v->timer, on_restore_timeout, MIN_OF(v->run->timeout_ms / 2, (uint64_t)RESTORE_MAX_MS), 0);
    return r;
}

static bool retry(struct vm *v, enum blame blame, const char *why)
{
    if (v->stage != VM_RESTORING || v->stopping || v->run->state[0])
        return false;
    boot_instead(v, blame, why);
    return true;
}

bool vm_retry(struct vm *v, const char *why)
{
    return retry(v, BLAME_UNKNOWN, why);
}

/* ---- Making ---- */

static int start_making(struct vm *v, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = boot_snapshot_begin(&v->snapshot, v->run, &v->id, &why);
    if (r < 0) {
        say(v, "no snapshot is made: %s", r == -EAGAIN ? "another vm is making it" : why.msg);
        return start_plain(v, err);
    }
    const struct vmm_source source = {
        .memory_fd = v->snapshot.memory_fd, .share = true, .store_path = v->snapshot.store_path};
    return start(v, VM_MAKING, &source, err);
}

/* ---- Booting once more ---- */

/*
 * Linux patches its own code while it boots (jump labels: int3, the new bytes, both told to the other processors).
 * Under software emulation another processor may still execute the int3 as it was translated before, when the kernel no
 * longer expects it: about one boot in a hundred of guests with several processors panics, or, where the console is not
 * there yet, says nothing at all.
 */
static bool may_boot_again(const struct vm *v)
{
    return (v->stage == VM_PLAIN || v->stage == VM_MAKING) && !v->spoke && !v->again && !v->stopping &&
           v->run->vcpus > 1 && strcmp(v->run->accel.name, "tcg") == 0;
}

static bool boot_again(struct vm *v, const char *why)
{
    struct mvm_error err = MVM_ERROR_INIT;
    if (!may_boot_again(v))
        return false;
    say(v, "%s before its agent spoke, which happens under software emulation with several processors: booting again",
        why);
    v->again = true;
    if (v->now)
        vmm_process_discard(v->now);
    int r = start_plain(v, &err);
    if (r < 0)
        say(v, "%s", err.msg);
    return r == 0;
}

static void on_silence(uv_timer_t *t)
{
    (void)!boot_again(t->data, "the guest said nothing on its console");
}

static void watch_boot(struct vm *v)
{
    v->heard = false;
    if (may_boot_again(v))
        uv_timer_start(&v->timer, on_silence, v->run->timeout_ms / 2, 0);
}

static void note_heard(struct vm *v)
{
    if (!v->heard && (v->stage == VM_PLAIN || v->stage == VM_MAKING))
        uv_timer_stop(&v->timer);
    v->heard = true;
}

/* The guest that was to be saved goes on as it is; a builder cannot, because it has no store. */
static void save_failed(struct vm *v, const char *why)
{
    say(v, "no snapshot is made: %s", why);
    uv_timer_stop(&v->timer);
    const struct msg_hello hello = v->snapshot.hello;
    bool needs_store = v->run->store_disk[0];
    boot_snapshot_done(&v->snapshot);
    v->stage = VM_PLAIN;
    if (!needs_store) {
        v->ops->agent(v->owner, &hello);
        return;
    }
    struct mvm_error err = MVM_ERROR_INIT;
    vmm_process_discard(v->now);
    if (start_plain(v, &err) < 0) {
        say(v, "%s", err.msg);
        v->ops->ended(v->owner, -1);
    }
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
    struct mvm_error err = MVM_ERROR_INIT;
    fd_closep(&v->maker_fd);
    if (v->stopping) {
        v->ops->ended(v->owner, -1);
        return;
    }
    steps_add(&v->steps, "measure", v->since);
    if (v->work_failed)
        boot_instead(v, BLAME_SNAPSHOT, v->work_error.msg);
    else if (start_restored(v, &err) < 0)
        boot_instead(v, BLAME_SNAPSHOT, err.msg[0] ? err.msg : "the backend takes no state");
}

static void on_saved(struct vm *v)
{
    const struct msg_hello hello = v->snapshot.hello;
    /* Bytes on their way belong to no state: neither to the saved guest, which has sent them, nor to the host's. */
    if (!vmm_process_is_silent(v->now)) {
        boot_instead(v, BLAME_SNAPSHOT, "the guest was speaking while it was saved");
        return;
    }
    steps_add(&v->steps, "save", v->since);
    v->since = clock_now();
    boot_snapshot_saved(&v->snapshot, &hello);
    v->maker_fd = fcntl(v->now->process.pidfd, F_DUPFD_CLOEXEC, 3);
    vmm_process_discard(v->now);
    v->now = NULL;
    v->work.data = v;
    if (v->maker_fd < 0 || uv_queue_work(v->loop, &v->work, measure, on_measured) < 0)
        boot_instead(v, BLAME_SNAPSHOT, "it cannot be hashed");
}

void vm_hello(struct vm *v, const struct msg_hello *hello)
{
    if (v->stage == VM_SAVING)
        return; /* it was heard already, and what is being saved is told nothing */
    note_heard(v);
    v->spoke = true;
    if (v->stage != VM_MAKING) {
        note_vmm(v, "boot");
        v->ops->agent(v->owner, hello);
        return;
    }
    v->snapshot.hello = *hello;
    v->stage = VM_SAVING;
    note_vmm(v, "boot");
    if (v->backend->save(v->now->control_fd, v->snapshot.state_fd, false) < 0)
        save_failed(v, "the backend takes no command");
}

/* ---- Sealing: syncing takes longer than starting, and nobody waits for it ---- */

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
        say(v, "the snapshot is not kept: %s", v->work_error.msg);
    else
        say(v, "the snapshot is kept");
    boot_snapshot_done(&v->snapshot);
    if (!v->now)
        v->ops->settled(v->owner);
}

void vm_configured(struct vm *v)
{
    if (v->stage != VM_RESTORING)
        return;
    v->stage = VM_RESTORED;
    uv_timer_stop(&v->timer);
    if (!v->run->state[0] && !v->snapshot.staged)
        boot_snapshot_worked(&v->snapshot);
    v->work.data = v;
    v->sealing = v->snapshot.staged && uv_queue_work(v->loop, &v->work, seal, on_sealed) == 0;
    if (!v->sealing)
        boot_snapshot_done(&v->snapshot);
}

/* ---- The VMM's words and end ---- */

static void on_console(void *owner, const void *p, size_t n)
{
    struct vm *v = owner;
    note_heard(v);
    v->ops->console(v->owner, p, n);
}

static void on_restored(struct vm *v)
{
    note_vmm(v, "restore");
    /* It may have stood still when it was saved. */
    if (v->run->state[0])
        (void)!v->backend->resume(v->now->control_fd);
    v->ops->agent(v->owner, &v->snapshot.hello);
}

static void on_event(void *owner, struct vmm_process *i, enum vmm_event event, const char *problem)
{
    struct vm *v = owner;
    if (v->stage == VM_PLAIN || v->stage == VM_RESTORED) {
        v->ops->event(v->owner, event, problem);
        return;
    }
    if (v->stopping || (event != VMM_COMPLETED && event != VMM_FAILED))
        return;
    if (v->stage == VM_SAVING && event == VMM_COMPLETED)
        on_saved(v);
    else if (v->stage == VM_SAVING)
        save_failed(v, problem);
    else if (v->stage == VM_RESTORING && event == VMM_COMPLETED)
        on_restored(v);
    else if (v->stage == VM_RESTORING)
        boot_instead(v, BLAME_SNAPSHOT, problem);
}

/* A VMM that had loaded and ended by itself has refused the state. */
static enum blame blame_of_end(const struct vmm_process *i)
{
    int status = i->process.status;
    return i->answered_at && WIFEXITED(status) && WEXITSTATUS(status) ? BLAME_SNAPSHOT : BLAME_UNKNOWN;
}

static void on_ended(void *owner, struct vmm_process *i)
{
    struct vm *v = owner;
    if (v->stage == VM_MAKING)
        v->stage = VM_PLAIN; /* it is not saved any more, whatever it says */
    if (v->stage == VM_PLAIN || v->stage == VM_RESTORED)
        vmm_process_drain(i);
    v->by_host = i->said.ended_by_host;
    v->now = NULL;
    uv_timer_stop(&v->timer);
    if (i->process.status == 0 && !v->by_host && boot_again(v, "the guest ended"))
        return;
    if (v->stage == VM_SAVING && !v->stopping) {
        boot_instead(v, BLAME_SNAPSHOT, "the backend ended while it saved the guest");
    } else if (!retry(v, blame_of_end(i), "the backend ended")) {
        v->ops->ended(v->owner, i->process.status);
    }
}

static const struct vmm_process_ops vmm_process_ops = {.console = on_console, .event = on_event, .ended = on_ended};

/* ---- Start and end ---- */

static int start_from_state(struct vm *v, struct mvm_error *err)
{
    v->snapshot.run = v->run;
    v->snapshot.state_fd = open(v->run->state, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (v->snapshot.state_fd < 0)
        return mvm_error_errno(err, -errno, "cannot open the state to continue from");
    v->warm = true;
    return start_restored(v, err);
}

int vm_start(struct vm *v, struct mvm_error *err)
{
    v->snapshot = (struct boot_snapshot)BOOT_SNAPSHOT_INIT;
    v->maker_fd = -1;
    uv_timer_init(v->loop, &v->timer);
    v->timer.data = v;
    int r = vmm_find(v->run->backend, &v->backend, err);
    if (r < 0)
        return r;
    if (v->run->state[0])
        return start_from_state(v, err);
    if (!v->run->snapshots[0]) {
        snprintf(v->cold_reason, sizeof(v->cold_reason), "%s", v->run->cold_reason);
        return start_plain(v, err);
    }
    struct mvm_error why = MVM_ERROR_INIT;
    uint64_t since = clock_now();
    r = vmm_plan_identity(v->backend, v->run, &v->id, &why);
    steps_add(&v->steps, "identity", since);
    since = clock_now();
    /* One is made where it is known that there is none that fits. */
    bool make = false;
    if (r == 0) {
        r = boot_snapshot_find(&v->snapshot, v->run, &v->id, &why);
        make = r == -ENOENT || r == -ESTALE;
    }
    steps_add(&v->steps, "snapshot-check", since);
    if (r == 0) {
        v->warm = true;
        if (start_restored(v, &why) == 0)
            return 0;
    }
    if (v->now)
        vmm_process_discard(v->now);
    snprintf(v->cold_reason, sizeof(v->cold_reason), "%.255s", why.msg);
    if (r != -ENOENT)
        say(v, "booting: %s", why.msg);
    v->warm = false;
    boot_snapshot_done(&v->snapshot);
    return make ? start_making(v, err) : start_plain(v, err);
}

void vm_stop(struct vm *v)
{
    v->stopping = true;
    uv_timer_stop(&v->timer);
}

static void on_settle_timeout(uv_timer_t *t)
{
    struct vm *v = t->data;
    say(v, "the snapshot is not kept: it took too long to write");
    v->ops->settled(v->owner);
}

bool vm_settle(struct vm *v)
{
    if (v->sealing)
        uv_timer_start(&v->timer, on_settle_timeout, SETTLE_MS, 0);
    return v->sealing;
}

void vm_done(struct vm *v)
{
    /* A thread that still seals has it; the process's end stops that, and the next maker sweeps what is left. */
    if (!v->sealing)
        boot_snapshot_done(&v->snapshot);
}
