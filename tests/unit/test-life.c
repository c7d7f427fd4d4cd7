/*
 * The life of a supervisor (supervisor/life.h), with a guest and a VMM that do as they are told: each row of the table
 * is taken, and the table is printed.
 */
#include "tap.h"

#include "base/macros.h"
#include "supervisor/life.h"

#include <errno.h>
#include <string.h>

static struct {
    bool deaf, writes, no_quit, seals;
    char told[128]; /* what was asked of guest, VMM and starter, in order */
} world;

static uv_loop_t loop;
static struct life life;
static uint64_t taken; /* rows, by all lives */

static void tell(const char *what)
{
    size_t n = strlen(world.told);
    snprintf(world.told + n, sizeof(world.told) - n, "%s%s", n ? " " : "", what);
}

static void on_changed(void *owner)
{
}

static void on_failed(void *owner)
{
    tell("fail");
}

static void on_ending(void *owner)
{
    tell("end");
}

static bool can_ask_guest(void *owner)
{
    return !world.deaf;
}

static void ask_guest(void *owner)
{
    tell("poweroff");
}

static bool writes_disk(void *owner)
{
    return world.writes;
}

static int ask_vmm(void *owner)
{
    tell("quit");
    return world.no_quit ? -EPIPE : 0;
}

static void kill_vmm(void *owner)
{
    tell("kill");
}

static bool on_ended(void *owner)
{
    tell("ended");
    return world.seals;
}

static void leave(void *owner)
{
    tell("leave");
}

static const struct life_ops ops = {.changed = on_changed,
                                    .failed = on_failed,
                                    .ending = on_ending,
                                    .can_ask_guest = can_ask_guest,
                                    .ask_guest = ask_guest,
                                    .writes_disk = writes_disk,
                                    .ask_vmm = ask_vmm,
                                    .kill_vmm = kill_vmm,
                                    .ended = on_ended,
                                    .leave = leave};

/* A life that has started, and come further by up to two events (0: none). */
static void begin(enum life_event first, enum life_event second)
{
    memset(&world, 0, sizeof(world));
    life = (struct life){.ops = &ops};
    if (uv_loop_init(&loop) < 0)
        abort();
    life_init(&life, &loop);
    (void)life_happens(&life, LIFE_E_STARTED);
    if (first)
        (void)life_happens(&life, first);
    if (second)
        (void)life_happens(&life, second);
}

static void end(void)
{
    taken |= life.taken;
    uv_close((uv_handle_t *)&life.timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
}

static void wait_out(void)
{
    uv_timer_cb cb = life.timer.timer_cb;
    uv_timer_stop(&life.timer);
    cb(&life.timer);
}

static bool waits(uint64_t ms)
{
    return uv_is_active((const uv_handle_t *)&life.timer) && uv_timer_get_due_in(&life.timer) == ms;
}

static bool is_at(enum life_stage stage, enum vm_state said, const char *told)
{
    bool same = life.stage == stage && life.said == said && strcmp(world.told, told) == 0;
    if (!same)
        printf("# %s, said to be %s; told: %s\n", life_stage_name(life.stage), vm_state_name(life.said), world.told);
    return same;
}

static void test_start(void)
{
    begin(0, 0);
    ok(is_at(LIFE_STARTING, VM_STATE_STARTING, "") && !life_is_up(&life), "a VM starts");
    (void)life_happens(&life, LIFE_E_READY);
    ok(is_at(LIFE_READY, VM_STATE_READY, "") && life_is_up(&life), "when its guest can be reached it is ready");
    ok(!life_happens(&life, LIFE_E_FAIL) && is_at(LIFE_READY, VM_STATE_READY, ""), "its start cannot fail any more");
    (void)life_happens(&life, LIFE_E_PAUSED);
    ok(is_at(LIFE_PAUSED, VM_STATE_PAUSED, "") && life_is_up(&life), "it can be paused");
    (void)life_happens(&life, LIFE_E_RESUMED);
    ok(is_at(LIFE_READY, VM_STATE_READY, ""), "and resumed");
    end();
    begin(0, 0);
    life.stage = LIFE_NEW;
    (void)life_happens(&life, LIFE_E_FAIL);
    ok(is_at(LIFE_GONE, VM_STATE_FAILED, ""), "a supervisor that can start no VMM has nothing to end");
    end();
}

static void test_fail(void)
{
    begin(LIFE_E_FAIL, 0);
    ok(is_at(LIFE_KILLING, VM_STATE_FAILED, "fail end kill"), "a start that fails is told, and its VM killed");
    life_stop(&life, 100);
    ok(is_at(LIFE_KILLING, VM_STATE_FAILED, "fail end kill"),
       "who stops it then changes nothing: it is said to have failed");
    (void)life_happens(&life, LIFE_E_ENDED);
    ok(is_at(LIFE_GONE, VM_STATE_FAILED, "fail end kill ended leave"), "with its VM the supervisor ends");
    end();
    begin(0, 0);
    life_stop(&life, 100);
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end kill"),
       "a VM whose guest is not there yet is killed when it is stopped");
    end();
    begin(0, 0);
    life_stop(&life, 0);
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end kill"),
       "a VM whose guest is not there yet is killed where there is no time");
    end();
}

/* From a guest that can be asked. */
static void stops(enum life_event paused, const char *name)
{
    begin(LIFE_E_READY, paused);
    life_stop(&life, 700);
    ok(is_at(LIFE_STOPPING, VM_STATE_STOPPING, "end poweroff") && waits(700),
       "a %s guest is asked to end, and waited for", name);
    (void)life_happens(&life, LIFE_E_ENDED);
    ok(is_at(LIFE_GONE, VM_STATE_STOPPING, "end poweroff ended leave") && !uv_is_active((uv_handle_t *)&life.timer),
       "its end ends the wait");
    end();
    begin(LIFE_E_READY, paused);
    life_stop(&life, 0);
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end kill"), "a %s guest is killed where there is no time", name);
    end();
    begin(LIFE_E_READY, paused);
    world.deaf = true;
    life_stop(&life, 700);
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end kill"), "a %s guest is killed where its channel is gone", name);
    end();
    begin(LIFE_E_READY, paused);
    (void)life_happens(&life, LIFE_E_ENDED);
    ok(is_at(LIFE_GONE, VM_STATE_STOPPING, "ended leave"), "a %s guest may end by itself", name);
    end();
    begin(LIFE_E_READY, paused);
    (void)life_happens(&life, LIFE_E_BROKEN);
    ok(is_at(LIFE_LOST, VM_STATE_CUT_OFF, "") && life_is_up(&life), "a %s guest that breaks the protocol stays", name);
    end();
}

static void test_lost(void)
{
    begin(LIFE_E_READY, LIFE_E_HALTED);
    ok(is_at(LIFE_LOST, VM_STATE_HALTED, ""), "a guest that has halted stays as well");
    ok(!life_happens(&life, LIFE_E_PAUSED) && !life_happens(&life, LIFE_E_RESUMED) &&
           is_at(LIFE_LOST, VM_STATE_HALTED, ""),
       "pausing and resuming a lost guest changes nothing");
    life_stop(&life, 700);
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end kill"), "a lost guest is not asked to end, but killed");
    end();
    begin(LIFE_E_READY, LIFE_E_HALTED);
    life_stop(&life, 0);
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end kill"), "a lost guest is killed where there is no time");
    end();
    begin(LIFE_E_READY, LIFE_E_BROKEN);
    (void)life_happens(&life, LIFE_E_ENDED);
    ok(is_at(LIFE_GONE, VM_STATE_CUT_OFF, "ended leave"), "a lost guest may end by itself");
    end();
}

static void test_too_long(void)
{
    begin(LIFE_E_READY, 0);
    life_stop(&life, 700);
    wait_out();
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end poweroff kill"), "a guest that does not end is killed");
    end();
    begin(LIFE_E_READY, 0);
    world.writes = true;
    life_stop(&life, 700);
    life_stop(&life, 700);
    ok(waits(700) && is_at(LIFE_STOPPING, VM_STATE_STOPPING, "end poweroff"),
       "who asks again does not lengthen the wait");
    life_stop(&life, 0);
    ok(is_at(LIFE_QUITTING, VM_STATE_STOPPING, "end poweroff end quit") && waits(1000),
       "who has no time ends it; a VMM with a disk is asked first");
    wait_out();
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end poweroff end quit kill"), "and killed after a second");
    end();
    begin(LIFE_E_READY, 0);
    world.writes = true;
    life_stop(&life, 0);
    (void)life_happens(&life, LIFE_E_ENDED);
    ok(is_at(LIFE_GONE, VM_STATE_STOPPING, "end quit ended leave"), "one that ends in time is not killed");
    end();
    begin(LIFE_E_READY, 0);
    world.writes = world.no_quit = true;
    life_stop(&life, 0);
    ok(is_at(LIFE_KILLING, VM_STATE_STOPPING, "end quit kill"), "one that cannot be asked is killed at once");
    end();
    begin(LIFE_E_READY, 0);
    world.seals = true;
    (void)life_happens(&life, LIFE_E_ENDED);
    ok(is_at(LIFE_ENDED, VM_STATE_STOPPING, "ended"), "a supervisor stays while a snapshot is written");
    (void)life_happens(&life, LIFE_E_SETTLED);
    ok(is_at(LIFE_GONE, VM_STATE_STOPPING, "ended leave"), "and ends then");
    end();
}

static void test_table(void)
{
    size_t n;
    const struct life_row *rows = life_rows(&n);
    for (size_t i = 0; i < n; i++) {
        const struct life_row *r = &rows[i];
        ok(taken >> i & 1, "row taken: %s, %s%s%s -> %s%s%s", life_stage_name(r->stage), life_event_name(r->event),
           r->when ? ", where it " : "", r->when ? r->condition : "", life_stage_name(r->next),
           r->said < VM_STATES ? ", said to be " : "", r->said < VM_STATES ? vm_state_name(r->said) : "");
    }
}

int main(void)
{
    test_start();
    test_fail();
    stops(0, "ready");
    stops(LIFE_E_PAUSED, "paused");
    test_lost();
    test_too_long();
    test_table();
    return tap_end();
}
