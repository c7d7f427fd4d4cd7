#include "base/clock.h"
#include "supervisor/vm_boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define SETTLE_MS 3000

/* ---- The table ---- */

static bool is_stopping(const struct vm *v)
{
    return v->stopping;
}

static bool is_ending(const struct vm *v)
{
    return v->ending;
}

/* What it is to continue from is a user's: it never boots instead. */
static bool has_state(const struct vm *v)
{
    return v->run->state[0];
}

static bool stops_or_has_state(const struct vm *v)
{
    return v->stopping || has_state(v);
}

static bool may_boot_instead(const struct vm *v)
{
    return !stops_or_has_state(v);
}

static bool needs_store(const struct vm *v)
{
    return v->run->store_disk[0];
}

static int act_lost(struct vm *v)
{
    v->ops->lost(v->owner, v->why);
    return 0;
}

static int act_ended(struct vm *v)
{
    v->ops->ended(v->owner, v->end_status);
    return 0;
}

/* clang-format off */
static const struct vm_row rows[] = {
    {VM_NEW,       VM_E_BOOT,         NULL,               NULL,                    VM_PLAIN,     vm_boot},
    {VM_NEW,       VM_E_MAKE,         NULL,               NULL,                    VM_MAKING,    vm_make},
    {VM_NEW,       VM_E_RESTORE,      NULL,               NULL,                    VM_RESTORING, vm_restore},
    {VM_PLAIN,     VM_E_HELLO,        NULL,               NULL,                    VM_PLAIN,     vm_agent},
    {VM_PLAIN,     VM_E_SILENT,       vm_may_boot_again,  "may boot again",        VM_PLAIN,     vm_boot_again},
    {VM_PLAIN,     VM_E_DIED,         vm_may_boot_again,  "may boot again",        VM_PLAIN,     vm_boot_again},
    {VM_PLAIN,     VM_E_DIED,         NULL,               NULL,                    VM_ENDED,     act_ended},
    {VM_MAKING,    VM_E_HELLO,        is_ending,          "its VMM has ended",     VM_MAKING,    vm_agent},
    {VM_MAKING,    VM_E_HELLO,        NULL,               NULL,                    VM_SAVING,    vm_save},
    {VM_MAKING,    VM_E_SILENT,       vm_may_boot_again,  "may boot again",        VM_PLAIN,     vm_boot_again},
    {VM_MAKING,    VM_E_DIED,         vm_may_boot_again,  "may boot again",        VM_PLAIN,     vm_boot_again},
    {VM_MAKING,    VM_E_DIED,         NULL,               NULL,                    VM_ENDED,     act_ended},
    {VM_SAVING,    VM_E_DIED,         is_stopping,        "is stopping",           VM_ENDED,     act_ended},
    {VM_SAVING,    VM_E_DIED,         NULL,               NULL,                    VM_PLAIN,     vm_boot_instead},
    {VM_SAVING,    VM_E_SAVED,        is_stopping,        "is stopping",           VM_SAVING,    NULL},
    {VM_SAVING,    VM_E_SAVED,        NULL,               NULL,                    VM_MEASURING, vm_measure},
    {VM_SAVING,    VM_E_NOT_SAVED,    is_stopping,        "is stopping",           VM_SAVING,    NULL},
    {VM_SAVING,    VM_E_NOT_SAVED,    needs_store,        "has no store yet",      VM_PLAIN,     vm_boot_unsaved},
    {VM_SAVING,    VM_E_NOT_SAVED,    NULL,               NULL,                    VM_PLAIN,     vm_keep_unsaved},
    {VM_SAVING,    VM_E_NOT_MEASURED, NULL,               NULL,                    VM_PLAIN,     vm_boot_instead},
    {VM_MEASURING, VM_E_MEASURED,     is_stopping,        "is stopping",           VM_ENDED,     act_ended},
    {VM_MEASURING, VM_E_MEASURED,     NULL,               NULL,                    VM_RESTORING, vm_restore_made},
    {VM_MEASURING, VM_E_NOT_MEASURED, is_stopping,        "is stopping",           VM_ENDED,     act_ended},
    {VM_MEASURING, VM_E_NOT_MEASURED, NULL,               NULL,                    VM_PLAIN,     vm_boot_instead},
    {VM_RESTORING, VM_E_LOADED,       is_stopping,        "is stopping",           VM_RESTORING, NULL},
    {VM_RESTORING, VM_E_LOADED,       NULL,               NULL,                    VM_RESTORING, vm_loaded},
    {VM_RESTORING, VM_E_HELLO,        NULL,               NULL,                    VM_RESTORING, vm_agent},
    {VM_RESTORING, VM_E_CONFIGURED,   NULL,               NULL,                    VM_RESTORED,  vm_seal},
    {VM_RESTORING, VM_E_REFUSED,      is_stopping,        "is stopping",           VM_RESTORING, NULL},
    {VM_RESTORING, VM_E_REFUSED,      has_state,          "is a user's snapshot",  VM_RESTORING, act_lost},
    {VM_RESTORING, VM_E_REFUSED,      NULL,               NULL,                    VM_PLAIN,     vm_boot_instead},
    {VM_RESTORING, VM_E_SILENT,       NULL,               NULL,                    VM_PLAIN,     vm_boot_instead},
    {VM_RESTORING, VM_E_BROKEN,       may_boot_instead,   "nothing is lost",       VM_PLAIN,     vm_boot_instead},
    {VM_RESTORING, VM_E_DIED,         stops_or_has_state, "stops, or is a user's", VM_ENDED,     act_ended},
    {VM_RESTORING, VM_E_DIED,         NULL,               NULL,                    VM_PLAIN,     vm_boot_instead},
    {VM_RESTORED,  VM_E_HELLO,        NULL,               NULL,                    VM_RESTORED,  vm_agent},
    {VM_RESTORED,  VM_E_DIED,         NULL,               NULL,                    VM_ENDED,     act_ended},
};
/* clang-format on */

const struct vm_row *vm_rows(size_t *ret_n)
{
    _Static_assert(ARRAY_SIZE(rows) <= 64, "a bit of vm.taken for each");
    *ret_n = ARRAY_SIZE(rows);
    return rows;
}

const char *vm_stage_name(enum vm_stage s)
{
    static const char *const names[] = {"new",       "plain",     "making",   "saving",
                                        "measuring", "restoring", "restored", "ended"};
    _Static_assert(ARRAY_SIZE(names) == VM_STAGES, "a name for each");
    return names[s];
}

const char *vm_event_name(enum vm_event e)
{
    static const char *const names[] = {"boot",         "make",   "restore", "hello",     "configured",
                                        "silent",       "broken", "saved",   "not saved", "measured",
                                        "not measured", "loaded", "refused", "died"};
    _Static_assert(ARRAY_SIZE(names) == VM_EVENTS, "a name for each");
    return names[e];
}

/* ---- What the VMM and the agent say ---- */

void vm_hello(struct vm *v, const struct msg_hello *hello)
{
    if (v->stage != VM_SAVING) { /* there it was heard already, and what is being saved is told nothing */
        vm_note_heard(v);
        v->spoke = true;
    }
    v->hello = hello;
    (void)vm_happens(v, VM_E_HELLO, "");
}

void vm_configured(struct vm *v)
{
    (void)vm_happens(v, VM_E_CONFIGURED, "");
}

bool vm_retry(struct vm *v, const char *why)
{
    v->blame = BLAME_UNKNOWN;
    return vm_happens(v, VM_E_BROKEN, why);
}

/* ---- Start and end ---- */

static int start_from_state(struct vm *v, struct mvm_error *err)
{
    v->snapshot.run = v->run;
    v->snapshot.state_fd = open(v->run->state, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (v->snapshot.state_fd < 0)
        return mvm_error_errno(err, -errno, "cannot open the state to continue from");
    v->warm = true;
    return vm_begin(v, VM_E_RESTORE, err);
}

static int start_making(struct vm *v, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = boot_snapshot_begin(&v->snapshot, v->run, &v->id, &why);
    if (r < 0)
        vm_say(v, "no snapshot is made: %s", r == -EAGAIN ? "another vm is making it" : why.msg);
    return vm_begin(v, r < 0 ? VM_E_BOOT : VM_E_MAKE, err);
}

/* The snapshot that fits, or why there is none. */
static int find_snapshot(struct vm *v, struct mvm_error *why)
{
    uint64_t since = clock_now();
    int r = vmm_plan_identity(v->backend, v->run, &v->id, why);
    steps_add(&v->steps, "identity", since);
    if (r < 0)
        return mvm_error_is_absent(r) || r == -ESTALE ? -EIO : r; /* which says nothing about snapshots */
    since = clock_now();
    r = boot_snapshot_find(&v->snapshot, v->run, &v->id, why);
    steps_add(&v->steps, "snapshot-check", since);
    return r;
}

int vm_start(struct vm *v, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    v->snapshot = (struct boot_snapshot)BOOT_SNAPSHOT_INIT;
    v->maker_fd = -1;
    v->rows = vm_rows(&v->n_rows);
    uv_timer_init(v->loop, &v->timer);
    run_state_init(&v->processors, v->loop);
    v->timer.data = v;
    int r = vmm_find(v->run->backend, &v->backend, err);
    if (r < 0)
        return r;
    if (has_state(v))
        return start_from_state(v, err);
    if (!v->run->snapshots[0] || !v->backend->caps.memory_file) {
        snprintf(v->cold_reason, sizeof(v->cold_reason), "%s",
                 v->run->snapshots[0] ? "the backend makes no snapshots" : v->run->cold_reason);
        return vm_begin(v, VM_E_BOOT, err);
    }
    r = find_snapshot(v, &why);
    /* One is made where it is known that there is none that fits. */
    const bool make = r == -ENOENT || r == -ESTALE;
    v->warm = r == 0;
    if (r == 0 && vm_begin(v, VM_E_RESTORE, &why) == 0)
        return 0;
    if (v->now)
        vmm_process_discard(v->now);
    v->now = NULL;
    snprintf(v->cold_reason, sizeof(v->cold_reason), "%.255s", why.msg);
    if (r != -ENOENT)
        vm_say(v, "booting: %s", why.msg);
    v->warm = false;
    boot_snapshot_done(&v->snapshot);
    return make ? start_making(v, err) : vm_begin(v, VM_E_BOOT, err);
}

void vm_stop(struct vm *v)
{
    v->stopping = true;
    uv_timer_stop(&v->timer);
}

static void on_settle_timeout(uv_timer_t *t)
{
    struct vm *v = t->data;
    vm_say(v, "the snapshot is not kept: it took too long to write");
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
