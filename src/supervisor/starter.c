/* What the process that started this VM hears of it: one packet, when the VM is ready, has failed, or its services
 * have. */
#include "base/clock.h"
#include "supervisor/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void starter_tell(struct supervisor *s)
{
    if (s->starter_gone || s->told)
        return;
    s->told = true;
    CLEAN_BUF struct buf m = BUF_INIT(FRAME_MAX_PAYLOAD);
    uv_os_fd_t fd;
    if (msg_status_encode(&m, &s->status) < 0 || uv_fileno((uv_handle_t *)&s->starter, &fd) < 0)
        return;
    ssize_t n = send(fd, m.data, m.len, MSG_NOSIGNAL); /* one packet (SOCK_SEQPACKET) */
    (void)n;
}

void starter_fail(struct supervisor *s, const char *fmt, ...)
{
    if (s->life.stage != LIFE_STARTING)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->status.problem, sizeof(s->status.problem), fmt, ap);
    va_end(ap);
    logfile_printf(&s->agent_log, "mvm: %s\n", s->status.problem);
    (void)life_happens(&s->life, LIFE_E_FAIL);
}

/* The starter hears now what became of the start. */
void starter_say_ready(struct supervisor *s)
{
    if (s->told)
        return;
    uv_timer_stop(&s->timer);
    if (s->status.ready_ns == 0)
        s->status.ready_ns = supervisor_since_start(s);
    steps_format(&s->vm.steps, s->status.steps, sizeof(s->status.steps));
    starter_tell(s);
}

static void on_services_settled(uv_timer_t *t)
{
    starter_say_ready(t->data);
}

/* While the starter waits for services: they are ready, and stay so for as long as it wishes, or have failed. */
void starter_judge_services(struct supervisor *s)
{
    enum services_state services = services_state_parse(s->status.services);
    if (s->told || !life_is_up(&s->life) || !s->status.services[0] || services == SERVICES_STARTING)
        return;
    if (s->status.ready_ns == 0) {
        s->status.ready_ns = supervisor_since_start(s);
        steps_add(&s->vm.steps, "services", s->configured_at);
    }
    /* On a busy machine everything takes longer, failing too. */
    uint64_t settle_ms = MAX_OF(s->run.settle_ms, s->status.ready_ns / NSEC_PER_MSEC / 4);
    if (s->run.settle_ms && services == SERVICES_READY)
        uv_timer_start(&s->timer, on_services_settled, settle_ms, 0);
    else
        starter_say_ready(s);
}

void starter_timeout(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    if (life_is_up(&s->life)) { /* but its services are not: that is said, and the VM stays to be looked at */
        starter_say_ready(s);
        return;
    }
    starter_fail(s, "the guest's agent was not ready within %.1f s%s", (double)s->run.timeout_ms / 1000,
                 s->status.hello_ns ? " (it said hello, but did not finish its set-up)" : "");
}

void starter_event(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct supervisor *s = st->data;
    if (n >= 0)
        return;
    uv_read_stop(st);
    s->starter_gone = true;
    if (!s->told || s->run.transient)
        supervisor_stop(s, s->told ? DEFAULT_GRACE_MS : 0, true);
}
