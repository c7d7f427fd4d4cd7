/* A supervisor's parts against a backend that does as it is told: who holds a VM's processors, and saving it while it
 * runs. */
#include "tap.h"

#include "supervisor/live_save.h"
#include "supervisor/run_state.h"
#include "supervisor/vm.h"

#include <errno.h>
#include <string.h>

/* ---- The backend ---- */

struct vmm {
    char told[128];
    struct vmm_done pause, resume, save;
    struct vmm_facts facts;
    int refuse; /* commands are not taken, with this */
};

static int take(struct vmm *v, const char *what, struct vmm_done *to, struct vmm_done d)
{
    strncat(v->told, what, sizeof(v->told) - strlen(v->told) - 1);
    if (to && v->refuse == 0)
        *to = d;
    return v->refuse;
}

static int take_pause(struct vmm *v, struct vmm_done d)
{
    return take(v, "pause ", &v->pause, d);
}

static int take_resume(struct vmm *v, struct vmm_done d)
{
    return take(v, "resume ", &v->resume, d);
}

static int take_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    return take(v, "save ", &v->save, d);
}

static int take_cancel(struct vmm *v)
{
    return take(v, "cancel ", NULL, (struct vmm_done){0});
}

static int take_hurry(struct vmm *v)
{
    return take(v, "hurry ", NULL, (struct vmm_done){0});
}

static const struct vmm_facts *tell_facts(const struct vmm *v)
{
    return &v->facts;
}

static const struct vmm_ops ops = {.pause = take_pause,
                                   .resume = take_resume,
                                   .save = take_save,
                                   .cancel = take_cancel,
                                   .hurry = take_hurry,
                                   .facts = tell_facts};

/* Ends a command that was taken. */
static void answer(struct vmm_done *d, int r, const char *problem)
{
    const struct vmm_done now = *d;
    *d = (struct vmm_done){0};
    if (now.done)
        now.done(now.owner, r, problem);
    else
        ok(false, "a command is under way");
}

/* ---- Who waits ---- */

struct waiter {
    unsigned times;
    int r;
};

static void on_told(void *owner, int r, const char *problem)
{
    struct waiter *w = owner;
    w->times++;
    w->r = r;
}

static struct vmm_done tell(struct waiter *w)
{
    return (struct vmm_done){.done = on_told, .owner = w};
}

static uv_loop_t loop;
static struct conn *no_channel;

struct bench {
    struct vmm vmm;
    struct run_state run;
};

static void bench_init(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    if (uv_loop_init(&loop) < 0)
        abort();
    run_state_init(&b->run, &loop);
    b->run.answer_ms = 20;
    run_state_begin(&b->run, &ops, &b->vmm, &no_channel, false);
}

static void bench_done(struct bench *b)
{
    uv_close((uv_handle_t *)&b->run.timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ok(uv_loop_close(&loop) == 0, "nothing of it is left on the loop");
}

static void test_holds(void)
{
    struct bench b;
    struct waiter user = {0}, idle = {0};
    bench_init(&b);
    ok(run_state_hold(&b.run, VM_HOLD_USER, tell(&user)) == 0 && strcmp(b.vmm.told, "pause ") == 0 && user.times == 0,
       "the first hold pauses the processors");
    ok(run_state_hold(&b.run, VM_HOLD_USER, tell(&user)) == -EALREADY, "a cause holds once");
    (void)!run_state_hold(&b.run, VM_HOLD_IDLE, tell(&idle));
    answer(&b.vmm.pause, 0, "");
    ok(user.times == 1 && user.r == 0 && idle.times == 1 && strcmp(b.vmm.told, "pause ") == 0,
       "all who hold are told when they stand still, of one pause");
    (void)!run_state_unhold(&b.run, VM_HOLD_USER, tell(&user));
    ok(user.times == 2 && b.run.run == RUN_PAUSED, "who lets go while another holds is told at once");
    (void)!run_state_unhold(&b.run, VM_HOLD_IDLE, tell(&idle));
    ok(strcmp(b.vmm.told, "pause resume ") == 0 && idle.times == 1, "the last one to let go resumes them");
    answer(&b.vmm.resume, 0, "");
    ok(idle.times == 2 && idle.r == 0 && run_state_is_running(&b.run), "and is told when they run");
    ok(run_state_unhold(&b.run, VM_HOLD_IDLE, tell(&idle)) == 0 && idle.times == 2,
       "who does not hold lets go of nothing");
    bench_done(&b);
}

static void test_change_of_mind(void)
{
    struct bench b;
    struct waiter w = {0}, again = {0};
    bench_init(&b);
    (void)!run_state_hold(&b.run, VM_HOLD_IDLE, tell(&w));
    (void)!run_state_unhold(&b.run, VM_HOLD_IDLE, tell(&again));
    ok(w.times == 1 && w.r == -ECANCELED && strcmp(b.vmm.told, "pause ") == 0,
       "a hold that is taken back while the VMM pauses is told so");
    answer(&b.vmm.pause, 0, "");
    ok(strcmp(b.vmm.told, "pause resume ") == 0 && again.times == 0, "and the processors are resumed when it has");
    (void)!run_state_hold(&b.run, VM_HOLD_USER, tell(&w));
    answer(&b.vmm.resume, 0, "");
    ok(again.times == 1 && strcmp(b.vmm.told, "pause resume pause ") == 0, "a hold while it resumes pauses them again");
    answer(&b.vmm.pause, 0, "");
    ok(w.times == 2 && w.r == 0, "and is told");
    bench_done(&b);
}

static void test_failures(void)
{
    struct bench b;
    struct waiter w = {0};
    bench_init(&b);
    b.vmm.refuse = -EIO;
    (void)!run_state_hold(&b.run, VM_HOLD_USER, tell(&w));
    ok(w.times == 1 && w.r == -EIO && run_state_is_running(&b.run), "a pause that is not taken holds nothing");
    b.vmm.refuse = 0;
    (void)!run_state_hold(&b.run, VM_HOLD_USER, tell(&w));
    answer(&b.vmm.pause, -EIO, "no");
    ok(w.times == 2 && w.r == -EIO && run_state_is_running(&b.run), "nor does one that fails");
    (void)!run_state_hold(&b.run, VM_HOLD_USER, tell(&w));
    uv_run(&loop, UV_RUN_DEFAULT);
    ok(w.times == 3 && w.r == -ETIMEDOUT && !run_state_holds(&b.run, VM_HOLD_USER), "nor one that is never answered");
    answer(&b.vmm.pause, 0, "");
    ok(b.run.run == RUN_RESUMING, "an answer that comes late has the processors resumed");
    answer(&b.vmm.resume, 0, "");
    (void)!run_state_hold(&b.run, VM_HOLD_USER, tell(&w));
    answer(&b.vmm.pause, 0, "");
    (void)!run_state_unhold(&b.run, VM_HOLD_USER, tell(&w));
    answer(&b.vmm.resume, -EIO, "no");
    ok(w.times == 5 && w.r == -EIO && run_state_holds(&b.run, VM_HOLD_USER),
       "who lets go and cannot have them resumed holds them still");
    (void)!run_state_unhold(&b.run, VM_HOLD_USER, tell(&w));
    run_state_end(&b.run);
    ok(w.times == 6 && w.r == -EPIPE && b.run.run == RUN_NONE, "who waits when the VMM ends is told");
    ok(run_state_hold(&b.run, VM_HOLD_USER, tell(&w)) == -EPIPE, "then nothing can be held");
    bench_done(&b);
}

/* ---- Saving a VM that runs ---- */

struct save_bench {
    struct vmm vmm;
    struct vmm_process process;
    struct runfile run;
    struct vm vm;
    struct live_save save;
    unsigned times;
    struct msg_saved result;
};

static void on_saved(void *owner, const struct msg_saved *result)
{
    struct save_bench *b = owner;
    b->times++;
    b->result = *result;
}

static void save_init(struct save_bench *b)
{
    memset(b, 0, sizeof(*b));
    if (uv_loop_init(&loop) < 0)
        abort();
    b->process.vmm = &b->vmm;
    b->vm = (struct vm){.run = &b->run, .backend = &ops, .now = &b->process};
    run_state_init(&b->vm.processors, &loop);
    run_state_begin(&b->vm.processors, &ops, &b->vmm, &b->process.channel, false);
    live_save_init(&b->save, &loop);
    b->save.vm = &b->vm;
    b->save.done = on_saved;
    b->save.owner = b;
    b->save.drain_ms = b->save.live_ms = b->save.save_ms = b->save.cancel_ms = 5;
    live_save_start(&b->save, -1);
}

static void save_done(struct save_bench *b)
{
    uv_close((uv_handle_t *)&b->vm.processors.timer, NULL);
    uv_close((uv_handle_t *)&b->save.timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ok(b->times == 1 && uv_loop_close(&loop) == 0, "the save has ended once");
}

static void test_save(void)
{
    struct save_bench b;
    save_init(&b);
    ok(!b.vmm.told[0], "nothing is saved before the agent is silent");
    live_save_drained(&b.save);
    ok(strcmp(b.vmm.told, "save ") == 0 && b.times == 0, "then the VMM saves");
    b.vmm.facts.stopped_at = 1;
    answer(&b.vmm.save, 0, "");
    ok(strcmp(b.vmm.told, "save resume ") == 0 && b.times == 0, "the guest is resumed when it is saved");
    answer(&b.vmm.resume, 0, "");
    ok(b.times == 1 && !b.result.problem[0] && b.result.stopped_ns > 0, "and the save is good when it runs");
    save_done(&b);
}

static void test_save_fails(void)
{
    struct save_bench b;
    save_init(&b);
    live_save_drained(&b.save);
    answer(&b.vmm.save, -EIO, "at 99%");
    ok(strcmp(b.vmm.told, "save resume ") == 0, "a guest whose save fails at the end is resumed");
    answer(&b.vmm.resume, 0, "");
    ok(b.times == 1 && strcmp(b.result.problem, "at 99%") == 0, "and the reason is told");
    save_done(&b);
}

static void test_save_never_ends(void)
{
    struct save_bench b;
    save_init(&b);
    live_save_drained(&b.save);
    while (b.times == 0 && uv_run(&loop, UV_RUN_ONCE))
        ;
    ok(strcmp(b.vmm.told, "save hurry cancel ") == 0 &&
           strcmp(b.result.problem, "writing the state took too long") == 0,
       "a VMM that saves for ever is hurried, cancelled and given up (%s)", b.vmm.told);
    answer(&b.vmm.save, 0, "");
    answer(&b.vmm.resume, 0, "");
    ok(run_state_is_running(&b.vm.processors), "one that answers later still has the guest resumed");
    save_done(&b);
}

static void test_save_without_agent(void)
{
    struct save_bench b;
    save_init(&b);
    while (b.times == 0 && uv_run(&loop, UV_RUN_ONCE))
        ;
    ok(b.result.problem[0] && !b.vmm.told[0], "an agent that does not answer is not saved");
    live_save_drained(&b.save);
    ok(!b.vmm.told[0], "nor is one that answers too late");
    save_done(&b);
}

static void test_save_vm_ends(void)
{
    struct save_bench b;
    save_init(&b);
    live_save_drained(&b.save);
    run_state_end(&b.vm.processors);
    live_save_ended(&b.save);
    ok(b.times == 1 && strcmp(b.result.problem, "the vm has ended") == 0,
       "a VM that ends while it is saved ends the save");
    save_done(&b);
}

/* ---- The table of a VM's start ---- */

static void test_table(void)
{
    size_t n;
    const struct vm_row *rows = vm_rows(&n);
    unsigned reached = 1u << VM_NEW;
    for (size_t i = 0; i < n; i++) {
        const struct vm_row *r = &rows[i];
        printf("# %-9s + %-12s %s%s%s -> %s\n", vm_stage_name(r->stage), vm_event_name(r->event), r->when ? "[" : "",
               r->when ? r->condition : "", r->when ? "]" : "", vm_stage_name(r->next));
        reached |= 1u << r->next;
        bool hidden = false;
        for (size_t k = 0; k < i; k++)
            hidden |= rows[k].stage == r->stage && rows[k].event == r->event && !rows[k].when;
        ok(!hidden && (r->when != NULL) == (r->condition != NULL),
           "%s, %s: its row can be taken, its condition has words", vm_stage_name(r->stage), vm_event_name(r->event));
    }
    ok(reached == (1u << VM_STAGES) - 1, "every stage can be reached");
}

int main(void)
{
    test_holds();
    test_change_of_mind();
    test_failures();
    test_save();
    test_save_fails();
    test_save_never_ends();
    test_save_without_agent();
    test_save_vm_ends();
    test_table();
    return tap_end();
}
