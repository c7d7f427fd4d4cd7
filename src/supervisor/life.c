#include "supervisor/life.h"
#include "base/macros.h"

#define QUIT_GRACE_MS 1000

/* ---- Conditions ---- */

static bool can_ask_guest(const struct life *l)
{
    return l->ops->can_ask_guest(l->owner);
}

static bool writes_disk(const struct life *l)
{
    return l->ops->writes_disk(l->owner);
}

/* ---- Actions ---- */

static void on_too_long(uv_timer_t *t)
{
    (void)life_happens(t->data, LIFE_E_TOO_LONG);
}

static void act_ask_guest(struct life *l)
{
    l->ops->ending(l->owner);
    l->ops->ask_guest(l->owner);
    uv_timer_start(&l->timer, on_too_long, l->grace_ms, 0);
}

/* The guest has no part in it, or no more of one. */
static void act_end(struct life *l)
{
    l->ops->ending(l->owner);
    (void)life_happens(l, LIFE_E_TOO_LONG);
}

static void act_fail(struct life *l)
{
    l->ops->failed(l->owner);
    act_end(l);
}

static void act_ask_vmm(struct life *l)
{
    if (l->ops->ask_vmm(l->owner) < 0)
        (void)life_happens(l, LIFE_E_TOO_LONG);
    else
        uv_timer_start(&l->timer, on_too_long, QUIT_GRACE_MS, 0);
}

static void act_kill(struct life *l)
{
    uv_timer_stop(&l->timer);
    l->ops->kill_vmm(l->owner);
}

static void act_ended(struct life *l)
{
    uv_timer_stop(&l->timer);
    if (!l->ops->ended(l->owner))
        (void)life_happens(l, LIFE_E_SETTLED);
}

static void act_leave(struct life *l)
{
    l->ops->leave(l->owner);
}

/* ---- The table ---- */

#define SAME VM_STATES
/* clang-format off */
static const struct life_row rows[] = {
    {LIFE_NEW,      LIFE_E_STARTED,  NULL,          NULL,                 LIFE_STARTING, VM_STATE_STARTING, NULL},
    {LIFE_NEW,      LIFE_E_FAIL,     NULL,          NULL,                 LIFE_GONE,     VM_STATE_FAILED,   NULL},
    {LIFE_STARTING, LIFE_E_READY,    NULL,          NULL,                 LIFE_READY,    VM_STATE_READY,    NULL},
    {LIFE_STARTING, LIFE_E_FAIL,     NULL,          NULL,                 LIFE_STOPPING, VM_STATE_FAILED,   act_fail},
    {LIFE_STARTING, LIFE_E_STOP,     NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_STARTING, LIFE_E_STOP_NOW, NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_READY,    LIFE_E_PAUSED,   NULL,          NULL,                 LIFE_PAUSED,   VM_STATE_PAUSED,   NULL},
    {LIFE_READY,    LIFE_E_BROKEN,   NULL,          NULL,                 LIFE_LOST,     VM_STATE_CUT_OFF,  NULL},
    {LIFE_READY,    LIFE_E_HALTED,   NULL,          NULL,                 LIFE_LOST,     VM_STATE_HALTED,   NULL},
    {LIFE_READY,    LIFE_E_STOP,     can_ask_guest, "can be asked",       LIFE_STOPPING, VM_STATE_STOPPING, act_ask_guest},
    {LIFE_READY,    LIFE_E_STOP,     NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_READY,    LIFE_E_STOP_NOW, NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_READY,    LIFE_E_ENDED,    NULL,          NULL,                 LIFE_ENDED,    VM_STATE_STOPPING, act_ended},
    {LIFE_PAUSED,   LIFE_E_RESUMED,  NULL,          NULL,                 LIFE_READY,    VM_STATE_READY,    NULL},
    {LIFE_PAUSED,   LIFE_E_BROKEN,   NULL,          NULL,                 LIFE_LOST,     VM_STATE_CUT_OFF,  NULL},
    {LIFE_PAUSED,   LIFE_E_STOP,     can_ask_guest, "can be asked",       LIFE_STOPPING, VM_STATE_STOPPING, act_ask_guest},
    {LIFE_PAUSED,   LIFE_E_STOP,     NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_PAUSED,   LIFE_E_STOP_NOW, NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_PAUSED,   LIFE_E_ENDED,    NULL,          NULL,                 LIFE_ENDED,    VM_STATE_STOPPING, act_ended},
    {LIFE_LOST,     LIFE_E_STOP,     NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_LOST,     LIFE_E_STOP_NOW, NULL,          NULL,                 LIFE_STOPPING, VM_STATE_STOPPING, act_end},
    {LIFE_LOST,     LIFE_E_ENDED,    NULL,          NULL,                 LIFE_ENDED,    SAME,              act_ended},
    {LIFE_STOPPING, LIFE_E_STOP_NOW, NULL,          NULL,                 LIFE_STOPPING, SAME,              act_end},
    {LIFE_STOPPING, LIFE_E_TOO_LONG, writes_disk,   "writes to its disk", LIFE_QUITTING, SAME,              act_ask_vmm},
    {LIFE_STOPPING, LIFE_E_TOO_LONG, NULL,          NULL,                 LIFE_KILLING,  SAME,              act_kill},
    {LIFE_STOPPING, LIFE_E_ENDED,    NULL,          NULL,                 LIFE_ENDED,    SAME,              act_ended},
    {LIFE_QUITTING, LIFE_E_TOO_LONG, NULL,          NULL,                 LIFE_KILLING,  SAME,              act_kill},
    {LIFE_QUITTING, LIFE_E_ENDED,    NULL,          NULL,                 LIFE_ENDED,    SAME,              act_ended},
    {LIFE_KILLING,  LIFE_E_ENDED,    NULL,          NULL,                 LIFE_ENDED,    SAME,              act_ended},
    {LIFE_ENDED,    LIFE_E_SETTLED,  NULL,          NULL,                 LIFE_GONE,     SAME,              act_leave},
};
/* clang-format on */
_Static_assert(ARRAY_SIZE(rows) <= 64, "a bit of life.taken for each");

const struct life_row *life_rows(size_t *ret_n)
{
    *ret_n = ARRAY_SIZE(rows);
    return rows;
}

const char *life_stage_name(enum life_stage s)
{
    static const char *const names[] = {"new",      "starting", "ready",   "paused", "lost",
                                        "stopping", "quitting", "killing", "ended",  "gone"};
    _Static_assert(ARRAY_SIZE(names) == LIFE_STAGES, "a name for each");
    return names[s];
}

const char *life_event_name(enum life_event e)
{
    static const char *const names[] = {"started", "ready", "fail",     "paused",   "resumed", "broken",
                                        "halted",  "stop",  "stop now", "too long", "ended",   "settled"};
    _Static_assert(ARRAY_SIZE(names) == LIFE_EVENTS, "a name for each");
    return names[e];
}

void life_init(struct life *l, uv_loop_t *loop)
{
    l->stage = LIFE_NEW;
    l->said = VM_STATE_STARTING;
    uv_timer_init(loop, &l->timer);
    l->timer.data = l;
}

static const struct life_row *find_row(const struct life *l, enum life_event e)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].stage == l->stage && rows[i].event == e && (!rows[i].when || rows[i].when(l)))
            return &rows[i];
    return NULL;
}

bool life_happens(struct life *l, enum life_event e)
{
    const struct life_row *row = find_row(l, e);
    if (!row)
        return false;
    l->taken |= UINT64_C(1) << (row - rows);
    l->stage = row->next;
    l->said = row->said == SAME ? l->said : row->said;
    l->ops->changed(l->owner);
    if (row->act)
        row->act(l);
    return true;
}

void life_stop(struct life *l, uint64_t grace_ms)
{
    l->grace_ms = grace_ms;
    (void)life_happens(l, grace_ms ? LIFE_E_STOP : LIFE_E_STOP_NOW);
}

bool life_is_up(const struct life *l)
{
    return l->stage == LIFE_READY || l->stage == LIFE_PAUSED || l->stage == LIFE_LOST;
}
