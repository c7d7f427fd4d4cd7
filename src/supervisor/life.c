/* What a supervisor does at the moment (internal.h), and the way to its end: the guest is asked, then the VMM, then it
 * is killed. */
#include "base/clock.h"
#include "supervisor/internal.h"

#include <signal.h>
#include <stdio.h>

#define QUIT_GRACE_MS 1000

void supervisor_set_state(struct supervisor *s, enum state state, enum vm_state said)
{
    s->state = state;
    s->said = said;
    snprintf(s->status.state, sizeof(s->status.state), "%s", vm_state_name(said));
}

uint64_t supervisor_since_start(const struct supervisor *s)
{
    return clock_now() - s->run.start_mono;
}

struct conn *supervisor_guest(struct supervisor *s)
{
    return s->vm.now ? s->vm.now->channel : NULL;
}

const char *supervisor_why_gone(const struct supervisor *s)
{
    return s->cut_off ? s->status.problem : s->ending ? s->ending : "the vm is gone";
}

/* ---- The way to the end ---- */

static void on_quit_timeout(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    if (s->vm.now)
        process_signal(&s->vm.now->process, SIGKILL);
}

static void on_grace_over(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    struct vmm_process *vmm = s->vm.now;
    if (!vmm)
        return;
    /* With a disk that is written the VMM gets the time to finish what the guest has asked of it. */
    if (!s->run.store_disk[0] || s->vm.backend->quit(vmm->vmm) < 0)
        process_signal(&vmm->process, SIGKILL);
    else
        uv_timer_start(&s->timer, on_quit_timeout, QUIT_GRACE_MS, 0);
}

void supervisor_stop(struct supervisor *s, uint64_t grace_ms)
{
    bool again = s->state == STOPPING;
    bool ask_guest = s->state == READY && supervisor_guest(s) && !s->cut_off && grace_ms;
    vm_stop(&s->vm);
    idle_pause_wake(&s->idle_pause);
    (void)!run_state_unhold(&s->vm.processors, VM_HOLD_USER,
                            (struct vmm_done){0}); /* or the guest could not do its part */
    if (s->state == READY || s->said != VM_STATE_FAILED)
        supervisor_set_state(s, STOPPING, VM_STATE_STOPPING);
    s->state = STOPPING;
    supervisor_watch_idle(s);
    if (ask_guest)
        conn_send_bare(supervisor_guest(s), MSG_POWEROFF);
    if (!again || grace_ms == 0) {
        if (ask_guest)
            uv_timer_start(&s->timer, on_grace_over, grace_ms, 0);
        else
            on_grace_over(&s->timer);
    }
}

/* ---- Nobody uses it ---- */

static void on_idle(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    logfile_printf(&s->agent_log, "mvm: stopped after %.1f s without a client\n", (double)s->run.idle_ms / 1000);
    s->asked_to_stop = true;
    supervisor_stop(s, IDLE_GRACE_MS);
}

/* Whenever clients come or go, or the time changes. Who only looks (MSG_STATUS) does not count as use. */
void supervisor_watch_idle(struct supervisor *s)
{
    s->status.clients = s->clients.n;
    s->status.idle_ms = s->run.idle_ms;
    uint64_t idle_ms = (clock_now() - s->used_at) / NSEC_PER_MSEC;
    if (s->state == READY && s->clients.n == 0 && s->run.idle_ms)
        uv_timer_start(&s->idle, on_idle, idle_ms < s->run.idle_ms ? s->run.idle_ms - idle_ms : 0, 0);
    else
        uv_timer_stop(&s->idle);
    if (s->state == READY && s->clients.n == 0 && vm_role_parse(s->run.role) == VM_ROLE_BUILDER)
        idle_pause_unused(&s->idle_pause, s->used_at);
    else
        idle_pause_keep(&s->idle_pause);
}
