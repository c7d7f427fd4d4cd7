/* What each file of the supervisor asks of it: its guest, its end, and to watch whether it is used. */
#include "base/clock.h"
#include "supervisor/internal.h"

#include <stdio.h>

uint64_t supervisor_since_start(const struct supervisor *s)
{
    return clock_now() - s->run.start_mono;
}

struct conn *supervisor_guest(struct supervisor *s)
{
    return s->vm.now ? s->vm.now->channel : NULL;
}

/* The end of the channel is the first that is seen of a guest's end: it serves nobody any more. */
void supervisor_say_state(struct supervisor *s)
{
    bool serves = s->life.stage == LIFE_READY || s->life.stage == LIFE_PAUSED;
    bool on_its_way_out = serves && !supervisor_guest(s);
    snprintf(s->status.state, sizeof(s->status.state), "%s",
             vm_state_name(on_its_way_out ? VM_STATE_STOPPING : s->life.said));
}

const char *supervisor_why_gone(struct supervisor *s)
{
    char line[200];
    if (s->cut_off)
        return s->status.problem;
    if (s->ending)
        return s->ending;
    if (s->asked_to_stop)
        return "the vm is gone";
    lastwords_telling(&s->console, line, sizeof(line));
    snprintf(s->gone, sizeof(s->gone), "the vm is gone%s%s", line[0] ? "; its console ends with: " : "", line);
    return s->gone;
}

void supervisor_stop(struct supervisor *s, uint64_t grace_ms, bool asked)
{
    s->asked_to_stop |= asked;
    life_stop(&s->life, grace_ms);
}

/* ---- Nobody uses it ---- */

static void on_idle(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    logfile_printf(&s->agent_log, "mvm: stopped after %.1f s without a client\n", (double)s->run.idle_ms / 1000);
    supervisor_stop(s, IDLE_GRACE_MS, true);
}

/* Whenever clients come or go, or the time changes. Who only looks (MSG_STATUS) does not count as use. */
void supervisor_watch_idle(struct supervisor *s)
{
    s->status.clients = s->clients.n;
    s->status.idle_ms = s->run.idle_ms;
    uint64_t idle_ms = (clock_now() - s->used_at) / NSEC_PER_MSEC;
    if (life_is_up(&s->life) && s->clients.n == 0 && s->run.idle_ms)
        uv_timer_start(&s->idle, on_idle, idle_ms < s->run.idle_ms ? s->run.idle_ms - idle_ms : 0, 0);
    else
        uv_timer_stop(&s->idle);
    if (life_is_up(&s->life) && s->clients.n == 0 && vm_role_parse(s->run.role) == VM_ROLE_BUILDER)
        idle_pause_unused(&s->idle_pause, s->used_at);
    else
        idle_pause_keep(&s->idle_pause);
}
