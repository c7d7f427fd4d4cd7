/*
 * A VM from its start to its end (supervisor/vm.h), with a VMM and snapshots that do as they are told: each row of the
 * table is taken, and the table is printed.
 */
#include "tap.h"

#include "supervisor/vm.h"
#include "supervisor/vm_boot.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- The VMM ---- */

struct vmm {
    struct vmm_done resume, save, restore;
    struct vmm_facts facts;
};

static struct {
    int no_restore;
    bool no_start, no_save, no_measure, speaks, has_last_words;
    int find, begin;
} world;

static struct vmm vmm;
static struct vmm_process *process;
static unsigned starts, removed;

static int take_resume(struct vmm *v, struct vmm_done d)
{
    v->resume = d;
    return 0;
}

static int take_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    v->save = d;
    return world.no_save ? -EIO : 0;
}

static int take_restore(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    v->restore = d;
    return world.no_restore;
}

static const struct vmm_facts *tell_facts(const struct vmm *v)
{
    return &v->facts;
}

static void nothing(struct vmm *v)
{
}

static struct vmm_ops ops = {
    .caps = {.memory_file = true, .snapshots = true, .keeps_agent = true},
    .resume = take_resume,
    .save = take_save,
    .restore = take_restore,
    .facts = tell_facts,
    .ended = nothing,
    .mute = nothing,
};

static void answer(struct vmm_done *d, int r)
{
    const struct vmm_done now = *d;
    *d = (struct vmm_done){0};
    now.done(now.owner, r, r < 0 ? "no" : "");
}

/* ---- In the place of processes and files ---- */

int __wrap_vmm_find(const char *name, const struct vmm_ops **ret, struct mvm_error *err);
int __wrap_vmm_find(const char *name, const struct vmm_ops **ret, struct mvm_error *err)
{
    *ret = &ops;
    return 0;
}

int __wrap_vmm_plan_identity(const struct vmm_ops *backend, const struct runfile *run, struct vmm_identity *ret,
                             struct mvm_error *err);
int __wrap_vmm_plan_identity(const struct vmm_ops *backend, const struct runfile *run, struct vmm_identity *ret,
                             struct mvm_error *err)
{
    return 0;
}

int __wrap_vmm_process_start(struct vmm_process **ret, uv_loop_t *loop, const struct vmm_ops *backend,
                             const struct launcher *launcher, const struct runfile *run,
                             const struct vmm_source *source, int dirfd, const struct vmm_process_ops *process_ops,
                             void *owner, const struct conn_ops *channel, void *channel_owner, struct mvm_error *err);
int __wrap_vmm_process_start(struct vmm_process **ret, uv_loop_t *loop, const struct vmm_ops *backend,
                             const struct launcher *launcher, const struct runfile *run,
                             const struct vmm_source *source, int dirfd, const struct vmm_process_ops *process_ops,
                             void *owner, const struct conn_ops *channel, void *channel_owner, struct mvm_error *err)
{
    static struct vmm_process all[2]; /* one follows another */
    if (world.no_start)
        return mvm_error_set(err, -EIO, "no vmm");
    process = *ret = &all[starts++ % ARRAY_SIZE(all)];
    if (process->process.pidfd > 0)
        close(process->process.pidfd);
    memset(&vmm, 0, sizeof(vmm));
    *process = (struct vmm_process){.vmm = &vmm, .ops = process_ops, .owner = owner};
    process->process.pidfd = eventfd(1, EFD_CLOEXEC); /* as of one that has ended */
    return 0;
}

void __wrap_vmm_process_discard(struct vmm_process *i);
void __wrap_vmm_process_discard(struct vmm_process *i)
{
}

bool __wrap_vmm_process_is_silent(const struct vmm_process *i);
bool __wrap_vmm_process_is_silent(const struct vmm_process *i)
{
    return !world.speaks;
}

static const struct msg_hello hello = {.protocol = 1};

void __wrap_vmm_process_drain(struct vmm_process *i);
void __wrap_vmm_process_drain(struct vmm_process *i)
{
    if (world.has_last_words)
        vm_hello(i->owner, &hello);
}

int __wrap_boot_snapshot_find(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                              struct mvm_error *err);
int __wrap_boot_snapshot_find(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                              struct mvm_error *err)
{
    return world.find;
}

int __wrap_boot_snapshot_begin(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                               struct mvm_error *err);
int __wrap_boot_snapshot_begin(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                               struct mvm_error *err)
{
    return world.begin;
}

int __wrap_boot_snapshot_measure(struct boot_snapshot *s, struct mvm_error *err);
int __wrap_boot_snapshot_measure(struct boot_snapshot *s, struct mvm_error *err)
{
    return world.no_measure ? mvm_error_set(err, -EIO, "it cannot be read") : 0;
}

void __wrap_boot_snapshot_saved(struct boot_snapshot *s, const struct msg_hello *h);
void __wrap_boot_snapshot_saved(struct boot_snapshot *s, const struct msg_hello *h)
{
    s->staged = true;
}

int __wrap_boot_snapshot_seal(struct boot_snapshot *s, struct mvm_error *err);
int __wrap_boot_snapshot_seal(struct boot_snapshot *s, struct mvm_error *err)
{
    s->staged = false;
    return 0;
}

void __wrap_boot_snapshot_remove(struct boot_snapshot *s);
void __wrap_boot_snapshot_remove(struct boot_snapshot *s)
{
    removed++;
}

bool __wrap_boot_snapshot_failed(struct boot_snapshot *s, uint64_t started_at);
bool __wrap_boot_snapshot_failed(struct boot_snapshot *s, uint64_t started_at)
{
    return false;
}

void __wrap_boot_snapshot_worked(struct boot_snapshot *s);
void __wrap_boot_snapshot_worked(struct boot_snapshot *s)
{
}

void __wrap_boot_snapshot_done(struct boot_snapshot *s);
void __wrap_boot_snapshot_done(struct boot_snapshot *s)
{
    *s = (struct boot_snapshot)BOOT_SNAPSHOT_INIT;
}

/* ---- One VM ---- */

static uv_loop_t loop;
static struct runfile run;
static struct vm vm;
static uint64_t taken; /* rows, by all VMs */
static struct {
    unsigned agents, lost, ended, settled;
} seen;

static void on_log(void *owner, const char *text)
{
}

static void on_changed(void *owner)
{
}

static void on_agent(void *owner, const struct msg_hello *h)
{
    seen.agents++;
}

static void on_lost(void *owner, const char *why)
{
    seen.lost++;
}

static void on_end(void *owner, int status)
{
    seen.ended++;
}

static void on_settled(void *owner)
{
    seen.settled++;
}

static const struct vm_ops vm_ops = {
    .log = on_log, .changed = on_changed, .agent = on_agent, .lost = on_lost, .ended = on_end, .settled = on_settled};

enum kind { PLAIN, MAKES, RESTORES, STATE };

static int begin_where(enum kind kind, unsigned vcpus, int no_restore)
{
    memset(&world, 0, sizeof(world));
    world.no_restore = no_restore;
    memset(&seen, 0, sizeof(seen));
    starts = removed = 0;
    if (uv_loop_init(&loop) < 0)
        abort();
    run = (struct runfile){.vcpus = vcpus, .timeout_ms = 600000};
    snprintf(run.accel.name, sizeof(run.accel.name), "%s", vmm_emulation);
    if (kind == MAKES || kind == RESTORES)
        snprintf(run.snapshots, sizeof(run.snapshots), "/nowhere");
    if (kind == STATE)
        snprintf(run.state, sizeof(run.state), "/dev/null");
    world.find = kind == RESTORES ? 0 : -ENOENT;
    vm = (struct vm){.loop = &loop, .run = &run, .ops = &vm_ops};
    return vm_start(&vm, NULL);
}

static int begin(enum kind kind, unsigned vcpus)
{
    return begin_where(kind, vcpus, 0);
}

static void end(void)
{
    taken |= vm.taken;
    uv_close((uv_handle_t *)&vm.timer, NULL);
    uv_close((uv_handle_t *)&vm.processors.timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
}

static void dies(int status)
{
    process->process.status = status;
    process->ops->ended(process->owner, process);
}

static void fire_timer(void)
{
    uv_timer_cb cb = vm.timer.timer_cb;
    uv_timer_stop(&vm.timer);
    cb(&vm.timer);
}

static void wait_for_work(void)
{
    enum vm_stage before = vm.stage;
    while (vm.stage == before && uv_run(&loop, UV_RUN_ONCE))
        ;
}

static bool is_at(enum vm_stage stage, unsigned vmms, unsigned ends)
{
    return vm.stage == stage && starts == vmms && seen.ended == ends;
}

static void test_plain(void)
{
    ok(begin(PLAIN, 1) == 0 && is_at(VM_PLAIN, 1, 0), "a VM without snapshots boots");
    vm_hello(&vm, &hello);
    ok(seen.agents == 1, "its agent's hello is passed on");
    ok(!vm_happens(&vm, VM_E_SAVED, "") && is_at(VM_PLAIN, 1, 0), "what no row of the table names changes nothing");
    dies(0);
    ok(is_at(VM_ENDED, 1, 1), "and its end");
    vm_hello(&vm, &hello);
    vm_configured(&vm);
    ok(is_at(VM_ENDED, 1, 1) && seen.agents == 1 && !vm_retry(&vm, ""), "afterwards nothing changes any more");
    end();
    begin(PLAIN, 2);
    dies(0);
    ok(is_at(VM_PLAIN, 2, 0), "an emulated guest of two processors that ends before its hello boots again");
    dies(0);
    ok(is_at(VM_ENDED, 2, 1), "once");
    end();
    begin(PLAIN, 2);
    fire_timer();
    ok(is_at(VM_PLAIN, 2, 0), "so does one that says nothing");
    end();
    begin(PLAIN, 2);
    vm_hello(&vm, &hello);
    dies(256);
    ok(is_at(VM_ENDED, 1, 1), "one whose agent spoke does not");
    end();
}

static void test_no_vmm(void)
{
    memset(&world, 0, sizeof(world));
    begin(MAKES, 1);
    vm_hello(&vm, &hello);
    world.no_start = true;
    dies(0);
    ok(is_at(VM_ENDED, 1, 1), "a VM whose next VMM cannot be started ends");
    end();
}

static void reach_saving(void)
{
    begin(MAKES, 1);
    vm_hello(&vm, &hello);
}

static void reach_measuring(void)
{
    reach_saving();
    answer(&vmm.save, 0);
}

static void test_make(void)
{
    ok(begin(MAKES, 1) == 0 && is_at(VM_MAKING, 1, 0), "a VM whose image has no snapshot makes one");
    vm_hello(&vm, &hello);
    ok(is_at(VM_SAVING, 1, 0) && seen.agents == 0, "it is saved at its agent's hello, before it is told anything");
    vm_hello(&vm, &hello);
    ok(is_at(VM_SAVING, 1, 0), "a second hello is not heard");
    answer(&vmm.save, 0);
    ok(is_at(VM_MEASURING, 1, 0), "then its files are hashed");
    wait_for_work();
    ok(is_at(VM_RESTORING, 2, 0) && seen.agents == 0, "and it is restored by another VMM");
    answer(&vmm.restore, 0);
    ok(seen.agents == 1 && vmm.resume.done, "which is resumed, and its agent configured");
    vm_configured(&vm);
    ok(is_at(VM_RESTORED, 2, 0), "then it runs");
    vm_hello(&vm, &hello);
    ok(seen.agents == 2, "an agent that begins anew is configured anew");
    dies(0);
    ok(is_at(VM_ENDED, 2, 1) && vm_settle(&vm), "when it ends the snapshot is still being kept");
    while (!seen.settled && uv_run(&loop, UV_RUN_ONCE))
        ;
    ok(seen.settled == 1, "and is");
    end();
}

/* With a VMM whose connections end when it is saved. */
static void test_agent_connects(void)
{
    ops.caps.keeps_agent = false;
    reach_measuring();
    wait_for_work();
    answer(&vmm.restore, 0);
    ok(seen.agents == 0 && vmm.resume.done, "a restored guest whose agent connects again is resumed first");
    vm_hello(&vm, &hello);
    ok(is_at(VM_RESTORING, 2, 0) && seen.agents == 1, "and its agent configured when it has");
    vm_configured(&vm);
    ok(is_at(VM_RESTORED, 2, 0), "then it runs");
    dies(0);
    end();
    ops.caps.keeps_agent = true;
}

static void test_make_fails(void)
{
    begin(MAKES, 1);
    dies(256);
    ok(is_at(VM_ENDED, 1, 1), "a guest that ends before it is saved has ended");
    end();
    begin(MAKES, 2);
    dies(0);
    ok(is_at(VM_PLAIN, 2, 0), "one that may boot again does so without snapshot");
    end();
    begin(MAKES, 2);
    fire_timer();
    ok(is_at(VM_PLAIN, 2, 0), "one that says nothing, too");
    end();
    begin(MAKES, 1);
    world.has_last_words = true;
    dies(0);
    ok(is_at(VM_ENDED, 1, 1) && seen.agents == 1, "a hello that is read when the VMM has ended saves nothing");
    end();

    reach_saving();
    answer(&vmm.save, -EIO);
    ok(is_at(VM_PLAIN, 1, 0) && seen.agents == 1, "a guest that cannot be saved runs on");
    end();
    begin(MAKES, 1);
    snprintf(run.store_disk, sizeof(run.store_disk), "/nowhere");
    vm_hello(&vm, &hello);
    answer(&vmm.save, -EIO);
    ok(is_at(VM_PLAIN, 2, 0) && seen.agents == 0, "a builder, which has no store yet, boots instead");
    end();
    begin(MAKES, 1);
    world.no_save = true;
    vm_hello(&vm, &hello);
    ok(is_at(VM_PLAIN, 1, 0) && seen.agents == 1, "where the VMM takes no command it runs on");
    end();
    reach_saving();
    world.speaks = true;
    answer(&vmm.save, 0);
    ok(is_at(VM_PLAIN, 2, 0), "one that speaks while it is saved boots instead");
    end();
    reach_saving();
    dies(9);
    ok(is_at(VM_PLAIN, 2, 0), "one whose VMM dies while it is saved boots instead");
    end();
    begin(MAKES, 1);
    vm_hello(&vm, &hello);
    world.no_measure = true;
    answer(&vmm.save, 0);
    wait_for_work();
    ok(is_at(VM_PLAIN, 2, 0), "one whose files cannot be hashed boots instead");
    end();
    reach_measuring();
    world.no_restore = -EIO;
    wait_for_work();
    ok(is_at(VM_PLAIN, 3, 0), "one that cannot be restored from what was made boots instead");
    end();
}

static void test_make_stops(void)
{
    reach_saving();
    vm_stop(&vm);
    answer(&vmm.save, 0);
    ok(is_at(VM_SAVING, 1, 0), "a VM that is to end is not restored when it was saved");
    dies(0);
    ok(is_at(VM_ENDED, 1, 1), "but ends");
    end();
    reach_saving();
    vm_stop(&vm);
    answer(&vmm.save, -EIO);
    ok(is_at(VM_SAVING, 1, 0) && seen.agents == 0, "nor does it run on when it was not");
    end();
    reach_measuring();
    vm_stop(&vm);
    wait_for_work();
    ok(is_at(VM_ENDED, 1, 1), "one that is to end while its files are hashed has no VMM: it has ended");
    end();
    reach_saving();
    world.no_measure = true;
    answer(&vmm.save, 0);
    vm_stop(&vm);
    wait_for_work();
    ok(is_at(VM_ENDED, 1, 1), "also where they cannot be hashed");
    end();
}

static void test_restore(void)
{
    ok(begin(RESTORES, 1) == 0 && is_at(VM_RESTORING, 1, 0), "a VM whose image has a snapshot is restored");
    vm_hello(&vm, &hello);
    ok(seen.agents == 1, "an agent that begins anew then is heard");
    answer(&vmm.restore, -EIO);
    ok(is_at(VM_PLAIN, 2, 0) && !vm.warm && removed == 1,
       "where the VMM refuses the state it boots, and the snapshot goes");
    end();
    begin(RESTORES, 1);
    fire_timer();
    ok(is_at(VM_PLAIN, 2, 0) && removed == 0, "where nothing is heard it boots, and the snapshot stays");
    end();
    begin(RESTORES, 1);
    ok(vm_retry(&vm, "it broke the protocol") && is_at(VM_PLAIN, 2, 0) && removed == 0,
       "where the agent breaks the protocol it boots, and the snapshot stays");
    ok(!vm_retry(&vm, "it broke the protocol"), "once");
    end();
    begin(RESTORES, 1);
    dies(9);
    ok(is_at(VM_PLAIN, 2, 0) && removed == 0, "where the VMM is killed it boots, and the snapshot stays");
    end();
    begin_where(RESTORES, 1, -EPIPE);
    ok(is_at(VM_RESTORING, 1, 0), "one whose VMM has ended before it was told to restore");
    dies(9);
    ok(is_at(VM_PLAIN, 2, 0) && removed == 0, "boots when that end is heard, and the snapshot stays");
    end();
    begin(RESTORES, 1);
    process->answered_at = 1;
    dies(256);
    ok(is_at(VM_PLAIN, 2, 0) && removed == 1, "where the VMM had loaded and exits it boots, and the snapshot goes");
    end();
    begin(RESTORES, 1);
    vm_stop(&vm);
    answer(&vmm.restore, 0);
    ok(is_at(VM_RESTORING, 1, 0) && seen.agents == 0, "one that is to end is told nothing when it is restored");
    dies(0);
    ok(is_at(VM_ENDED, 1, 1), "and does not boot when its VMM has ended");
    end();
    begin(RESTORES, 1);
    vm_stop(&vm);
    answer(&vmm.restore, -EIO);
    ok(is_at(VM_RESTORING, 1, 0), "nor where the state is refused");
    end();
}

static void test_state(void)
{
    ok(begin(STATE, 1) == 0 && is_at(VM_RESTORING, 1, 0), "a user's snapshot is restored");
    ok(!uv_is_active((uv_handle_t *)&vm.timer), "for as long as the user waits");
    answer(&vmm.restore, -EIO);
    ok(is_at(VM_RESTORING, 1, 0) && seen.lost == 1, "where it is refused that is told, and nothing boots instead");
    dies(0);
    ok(is_at(VM_ENDED, 1, 1), "also when its VMM has ended");
    end();
}

static void test_table(void)
{
    size_t n;
    const struct vm_row *rows = vm_rows(&n);
    bool acts = false;
    for (size_t i = 0; i < n; i++)
        acts |= rows[i].event == VM_E_MAKE && rows[i].act == vm_make;
    ok(acts, "the table has what follows from an event");
    for (size_t i = 0; i < n; i++) {
        const struct vm_row *r = &rows[i];
        ok(taken >> i & 1, "row taken: %s, %s%s%s -> %s", vm_stage_name(r->stage), vm_event_name(r->event),
           r->when ? ", where it " : "", r->when ? r->condition : "", vm_stage_name(r->next));
    }
}

int main(void)
{
    test_plain();
    test_no_vmm();
    test_make();
    test_agent_connects();
    test_make_fails();
    test_make_stops();
    test_restore();
    test_state();
    test_table();
    return tap_end();
}
