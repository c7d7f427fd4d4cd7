/*
 * This is the supervisor: one process for each VM. It exists because somebody must own the VMM, the channel to the
 * guest, the console's log and the control socket for as long as the VM runs, while commands come and go. It is started
 * by machine_start (start.c) with three descriptors: the VM's folder, the folder's lock (held until this process ends:
 * the truth about "running"), and a socket to the starter, on which it sends one MSG_STATUS when the VM is ready or has
 * failed. The starter's end closing before that, or at any time for a transient VM, ends the VM.
 *
 * Its life: start the VMM, booting or restoring (vm.c) -> the agent is there -> configure it -> ready -> stopping
 * (guest asked, then VMM, then killed) -> gone. One libuv loop, nothing blocks, nothing is polled.
 */
#include "supervisor/supervisor.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"
#include "supervisor/internal.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONSOLE_CAP     (1u << 20)
#define AGENT_CAP       (1u << 20)
#define QUIT_GRACE_MS   1000
#define IDLE_GRACE_MS   20000      /* nobody waits, and a builder has much to write; a guest that ends by itself, too */
#define VMM_END_MS      1000       /* a VMM that ends closes the channel first */
#define GUEST_QUEUE_MAX (4u << 20) /* above it no client is read that sends anything */
#define ANSWERS_MAX     (4u << 20) /* above it a client is not read that does not read what it asked for */
#define CLIENT_QUEUES   (ROUTER_GRANTS + (4u << 20)) /* above it the client that reads least is cut off */

/* ---- Telling the starter ---- */

static void tell_starter(struct supervisor *s)
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

void supervisor_set_state(struct supervisor *s, enum state state, const char *name)
{
    s->state = state;
    snprintf(s->status.state, sizeof(s->status.state), "%s", name);
}

static void fail(struct supervisor *s, const char *fmt, ...) MVM_PRINTF(2, 3);
static void fail(struct supervisor *s, const char *fmt, ...)
{
    if (s->state != STARTING)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->status.problem, sizeof(s->status.problem), fmt, ap);
    va_end(ap);
    logfile_printf(&s->agent_log, "mvm: %s\n", s->status.problem);
    snprintf(s->status.state, sizeof(s->status.state), "failed");
    tell_starter(s);
    supervisor_stop(s, 0);
}

/* ---- Nothing to do ---- */

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
    if (s->state == READY && s->clients.n == 0 && strcmp(s->run.role, "builder") == 0)
        idle_pause_unused(&s->idle_pause, s->used_at);
    else
        idle_pause_keep(&s->idle_pause);
}

/* ---- Messages from the agent ---- */

static uint64_t since_start(const struct supervisor *s)
{
    return clock_now() - s->run.start_mono;
}

struct conn *supervisor_guest(struct supervisor *s)
{
    return s->vm.now ? s->vm.now->channel : NULL;
}

/* As systemd does it for a fresh machine: random, machine-id(5). */
static void make_machine_id(char out[static 33])
{
    uint8_t id[16];
    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
        return;
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof(id); i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
}

static void send_configure(struct supervisor *s)
{
    struct msg_configure m = {.wall_ns = clock_wall(), .seed_len = sizeof(m.seed)};
    snprintf(m.hostname, sizeof(m.hostname), "%s", s->run.hostname);
    snprintf(m.address, sizeof(m.address), "10.0.2.15/24");
    snprintf(m.gateway, sizeof(m.gateway), "10.0.2.2");
    snprintf(m.dns, sizeof(m.dns), "10.0.2.3");
    m.store_check = s->run.store_check;
    m.copied = s->run.state[0] && s->vm.stage == VM_RESTORING;
    m.window = ROUTER_WINDOW;
    if (getrandom(m.seed, sizeof(m.seed), 0) != (ssize_t)sizeof(m.seed))
        m.seed_len = 0;
    make_machine_id(m.machine_id);
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    if (msg_configure_encode(&b, &m) == 0)
        conn_send_frame(supervisor_guest(s), FRAME_MSG, 0, 0, b.data, b.len);
    explicit_bzero(&m, sizeof(m));
    explicit_bzero(b.data, b.len);
}

static int on_hello(struct supervisor *s, const void *p, size_t n)
{
    struct msg_hello m = {0};
    int r = msg_hello_decode(&m, p, n);
    if (r < 0)
        return r;
    if (m.protocol != MVM_PROTOCOL_VERSION) {
        fail(s, "the guest's agent speaks protocol %llu, this mvmctl speaks %d", (unsigned long long)m.protocol,
             MVM_PROTOCOL_VERSION);
        return 0;
    }
    if (s->status.hello_ns == 0)
        s->status.hello_ns = since_start(s);
    vm_hello(&s->vm, &m);
    return 0;
}

static void on_agent(void *owner, const struct msg_hello *m)
{
    struct supervisor *s = owner;
    if (s->status.hello_ns == 0)
        s->status.hello_ns = since_start(s);
    s->status.guest_boot_ns = m->boot_ns;
    s->status.guest_ready_ns = m->ready_ns;
    if (s->run.state[0] && s->vm.stage == VM_RESTORING)
        logfile_printf(&s->agent_log, "mvm: the guest continues from a snapshot\n");
    else
        logfile_printf(&s->agent_log, "mvm: agent of role %s on Linux %s is there\n", m->role, m->kernel);
    s->hello = *m;
    /* A second hello: the agent has begun anew, what it served is gone. */
    router_set_guest(s->router, false, "the guest's agent was restarted");
    send_configure(s);
}

/* The starter hears now what became of the start. */
static void say_ready(struct supervisor *s)
{
    if (s->told)
        return;
    uv_timer_stop(&s->timer);
    if (s->status.ready_ns == 0)
        s->status.ready_ns = since_start(s);
    steps_format(&s->vm.steps, s->status.steps, sizeof(s->status.steps));
    tell_starter(s);
}

static void on_services_settled(uv_timer_t *t)
{
    say_ready(t->data);
}

/* While the starter waits for services: they are ready, and stay so for as long as it wishes, or have failed. */
static void judge_services(struct supervisor *s)
{
    if (s->told || s->state != READY || !s->status.services[0] || strcmp(s->status.services, SERVICES_STARTING) == 0)
        return;
    if (s->status.ready_ns == 0) {
        s->status.ready_ns = since_start(s);
        steps_add(&s->vm.steps, "services", s->configured_at);
    }
    /* On a busy machine everything takes longer, failing too. */
    uint64_t settle_ms = MAX_OF(s->run.settle_ms, s->status.ready_ns / NSEC_PER_MSEC / 4);
    if (s->run.settle_ms && strcmp(s->status.services, SERVICES_READY) == 0)
        uv_timer_start(&s->timer, on_services_settled, settle_ms, 0);
    else
        say_ready(s);
}

static int on_configured(struct supervisor *s, const void *p, size_t n)
{
    struct msg_configured m = {0};
    int r = msg_configured_decode(&m, p, n);
    if (r < 0)
        return r;
    if (s->vm.stage == VM_MAKING || s->vm.stage == VM_SAVING)
        return -EPROTO; /* nobody asked it to */
    vm_configured(&s->vm);
    router_set_small_windows(s->router, m.window == ROUTER_WINDOW);
    router_set_guest(s->router, true, "");
    snprintf(s->status.address, sizeof(s->status.address), "%s", m.address);
    snprintf(s->status.store, sizeof(s->status.store), "%s", m.store);
    if (m.problem[0])
        logfile_printf(&s->agent_log, "mvm: %s\n", m.problem);
    if (s->state != STARTING)
        return 0;
    /* A builder without its store is of no use; a runtime VM without a network still is. */
    if (m.problem[0] && strcmp(s->run.role, "builder") == 0) {
        fail(s, "the builder is not usable: %s", m.problem);
        return 0;
    }
    snprintf(s->status.problem, sizeof(s->status.problem), "%s", m.problem);
    steps_add(&s->vm.steps, "configure", s->vm.since);
    s->configured_at = clock_now();
    snprintf(s->status.mode, sizeof(s->status.mode), "%s", s->vm.warm ? "warm" : "cold");
    snprintf(s->status.cold_reason, sizeof(s->status.cold_reason), "%s", s->vm.warm ? "" : s->vm.cold_reason);
    supervisor_set_state(s, READY, "ready");
    s->used_at = clock_now();
    supervisor_watch_idle(s);
    /* To execute a service is the guest's next step: who does not look for failures need not wait for that. */
    bool wait = m.services && s->run.ready == READY_SERVICES && (m.slow || s->run.settle_ms);
    if (m.slow && !s->status.services[0])
        snprintf(s->status.services, sizeof(s->status.services), SERVICES_STARTING);
    if (wait)
        judge_services(s);
    else
        say_ready(s);
    return 0;
}

static int on_services(struct supervisor *s, const void *p, size_t n)
{
    struct msg_services m = {0};
    int r = msg_services_decode(&m, p, n);
    if (r < 0)
        return r;
    logfile_printf(&s->agent_log, "mvm: services: %s%s%s\n", m.state, m.problem[0] ? ": " : "", m.problem);
    snprintf(s->status.services, sizeof(s->status.services), "%s", m.state);
    snprintf(s->status.services_problem, sizeof(s->status.services_problem), "%s", m.problem);
    judge_services(s);
    return 0;
}

/* The guest powers off or restarts by itself: its VMM ends soon (-no-reboot), or is ended. */
static int on_ending(struct supervisor *s, const void *p, size_t n)
{
    struct msg_ending m = {0};
    if (msg_ending_decode(&m, p, n) < 0)
        return -EPROTO;
    s->ending = m.how == ENDING_RESTART ? "the guest restarted" : "the guest powered off";
    if (s->state == READY)
        supervisor_stop(s, IDLE_GRACE_MS);
    return 0;
}

static int on_guest_msg(void *data, const void *p, size_t n)
{
    struct supervisor *s = data;
    struct msg_reader r;
    if (msg_open(&r, p, n) < 0)
        return -EPROTO;
    if (r.type == MSG_HELLO)
        return on_hello(s, p, n);
    if (r.type == MSG_CONFIGURED)
        return on_configured(s, p, n);
    if (r.type == MSG_ENDING)
        return on_ending(s, p, n);
    if (r.type == MSG_SERVICES)
        return on_services(s, p, n);
    if (r.type == MSG_DRAINED) {
        live_save_held(&s->live_save);
        return 0;
    }
    if (r.type == MSG_QUIESCED) {
        idle_pause_agreed(&s->idle_pause);
        return 0;
    }
    if (r.type == MSG_LOG) {
        struct msg_log m = {0};
        if (msg_log_decode(&m, p, n) < 0)
            return -EPROTO;
        logfile_printf(&s->agent_log, "%s\n", m.text);
    } else if (r.type == MSG_SERVICE) {
        struct msg_service m = {0};
        if (msg_service_decode(&m, p, n) < 0)
            return -EPROTO;
        logfile_printf(&s->agent_log, "mvm: service %s %s (%llu)\n", m.name, m.state, (unsigned long long)m.code);
    }
    return 0; /* what a newer agent may say besides is ignored */
}

static void to_guest(void *data, const void *p, size_t n)
{
    struct supervisor *s = data;
    conn_send(supervisor_guest(s), p, n);
}

static void to_client(void *data, void *client, const void *p, size_t n)
{
    conn_send(client, p, n);
}

static const struct router_ops router_ops = {
    .to_guest = to_guest,
    .to_client = to_client,
    .guest_msg = on_guest_msg,
    .local = requests_request,
};

/* ---- Connections ---- */

static ssize_t on_guest_frames(struct supervisor *s, struct conn *c, uint8_t *p, size_t n, const char **ret_why)
{
    guard_begin(&s->guard);
    ssize_t used = router_from_guest(s->router, p, n, ret_why);
    clients_bound(&s->clients, CLIENT_QUEUES);
    clients_wake(&s->clients);
    halt_guest_spoke(&s->halt, router_is_used(s->router));
    const char *why = used < 0 ? NULL : guard_end(&s->guard, c, router_cost(s->router));
    if (!why)
        return used;
    *ret_why = why;
    return -EDQUOT;
}

static ssize_t on_frames(struct conn *c, uint8_t *p, size_t n, const char **ret_why)
{
    struct supervisor *s = c->owner;
    bool waits = false;
    if (!c->client)
        return on_guest_frames(s, c, p, n, ret_why);
    ssize_t used = router_from_client(s->router, c->client, p, n, &waits, ret_why);
    clients_bound(&s->clients, CLIENT_QUEUES);
    clients_wake(&s->clients);
    halt_watch(&s->halt, router_is_used(s->router));
    if (c->closing)
        return used < 0 ? used : (ssize_t)n;
    c->waits = waits;
    if (waits || conn_queued(supervisor_guest(s)) > GUEST_QUEUE_MAX || conn_queued(c) > ANSWERS_MAX)
        conn_pause(c);
    return used;
}

static bool client_may_go_on(void *owner, const struct conn *c)
{
    struct supervisor *s = owner;
    return conn_queued(supervisor_guest(s)) <= GUEST_QUEUE_MAX / 2 && conn_queued(c) <= ANSWERS_MAX / 2 &&
           (!c->waits || router_has_room(s->router));
}

static void on_drained(struct conn *c)
{
    struct supervisor *s = c->owner;
    if (c->client ? c->paused && conn_queued(c) <= ANSWERS_MAX / 2 : conn_queued(c) < GUEST_QUEUE_MAX / 2)
        clients_wake(&s->clients);
}

static void lose_guest(struct supervisor *s, const char *why)
{
    if (vm_retry(&s->vm, why))
        return;
    fail(s, "the guest's agent broke the protocol: %s", why);
    if (s->state != READY)
        return;
    s->cut_off = true;
    supervisor_set_state(s, READY, "cut off");
    snprintf(s->status.problem, sizeof(s->status.problem), "the guest was cut off: %.900s", why);
}

void supervisor_halted(struct supervisor *s)
{
    static const char why[] = "the guest has halted: its processors wait with interrupts off, and nothing wakes them";
    logfile_printf(&s->agent_log, "mvm: %s\n", why);
    s->cut_off = true;
    supervisor_set_state(s, READY, "halted");
    snprintf(s->status.problem, sizeof(s->status.problem), "%s", why);
    router_set_guest(s->router, false, why);
    halt_watch(&s->halt, false);
}

/* What a VMM is not asked in the middle of. */
static bool may_ask_halted(void *owner)
{
    const struct supervisor *s = owner;
    return s->state == READY && !s->paused && !s->cut_off && !s->serving.type && s->live_save.stage == LIVE_SAVE_IDLE &&
           s->idle_pause.state == IDLE_PAUSE_AWAKE;
}

/* The host slept, or its clock was set. */
static void on_clock_jumped(void *owner)
{
    struct supervisor *s = owner;
    if (s->state == READY && !s->paused && !s->cut_off && s->idle_pause.state == IDLE_PAUSE_AWAKE)
        idle_pause_set_clock(supervisor_guest(s));
}

static void on_cut_off(struct conn *c, const char *why)
{
    struct supervisor *s = c->owner;
    logfile_printf(&s->agent_log, "mvm: cut off %s: %s\n", c->client ? "a client" : "the guest", why);
    if (!c->client)
        lose_guest(s, why);
}

/* The channel has ended, and its VMM has not. */
static void on_channel_lost(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    if (s->vm.now && !supervisor_guest(s) && !s->cut_off)
        lose_guest(s, "the connection to its agent ended");
}

/* What clients are told whose streams end with the guest. */
static const char *why_gone(const struct supervisor *s)
{
    return s->cut_off ? s->status.problem : s->ending ? s->ending : "the vm is gone";
}

static void on_gone(struct conn *c)
{
    struct supervisor *s = c->owner;
    if (!c->client) {
        if (c == supervisor_guest(s))
            s->vm.now->channel = NULL;
        router_set_guest(s->router, false, why_gone(s));
        clients_wake(&s->clients);
        uv_timer_start(&s->channel_lost, on_channel_lost, VMM_END_MS, 0);
        return;
    }
    requests_gone(s, c);
    clients_remove(&s->clients, c);
    clients_wake(&s->clients);
    if (c->used)
        s->used_at = clock_now();
    supervisor_watch_idle(s);
    router_remove_client(s->router, c->client);
    if (!router_is_used(s->router))
        halt_watch(&s->halt, false);
}

static const struct conn_ops conn_ops = {
    .frames = on_frames, .drained = on_drained, .cut_off = on_cut_off, .gone = on_gone};

static void on_client(uv_stream_t *listener, int status)
{
    struct supervisor *s = listener->data;
    struct conn *c = status == 0 ? conn_new(&s->loop, &conn_ops, s) : NULL;
    if (!c)
        return;
    if (uv_accept(listener, &c->stream) < 0 || (s->clients.n >= s->max_clients && !clients_evict(&s->clients)) ||
        !(c->client = router_add_client(s->router, c))) {
        conn_discard(c);
        return;
    }
    clients_add(&s->clients, c);
    supervisor_watch_idle(s);
    if (conn_start(c) < 0)
        conn_close(c);
}

/* ---- The VM, the starter ---- */

static void on_console(void *owner, const void *p, size_t n)
{
    struct supervisor *s = owner;
    logfile_write(&s->console_log, p, n);
    lastwords_add(&s->console, p, n);
}

static void on_vm_log(void *owner, const char *text)
{
    struct supervisor *s = owner;
    logfile_printf(&s->agent_log, "mvm: %s\n", text);
}

static void on_vm_lost(void *owner, const char *why)
{
    struct supervisor *s = owner;
    snprintf(s->status.hint, sizeof(s->status.hint), "the snapshot is kept; mvmctl logs %s shows what QEMU said",
             s->run.name);
    fail(s, "the snapshot cannot be restored: %s", why);
}

static void on_vm_event(void *owner, enum vmm_event event, const char *problem)
{
    requests_event(owner, event, problem);
}

static void on_vm_changed(void *owner)
{
    struct supervisor *s = owner;
    s->status.vmm_pid = (uint64_t)s->vm.now->process.pid;
    s->status.confined = s->vm.now->jail.seccomp;
    jail_report_format(&s->vm.now->jail, s->status.confinement);
    jail_report_format(&s->jail, s->status.own_confinement);
    snprintf(s->status.limits, sizeof(s->status.limits), "%s", s->vm.now->jail.limits);
}

static void on_starter(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct supervisor *s = st->data;
    if (n >= 0)
        return;
    uv_read_stop(st);
    s->starter_gone = true;
    if (!s->told || s->run.transient) {
        s->asked_to_stop = true;
        supervisor_stop(s, s->told ? DEFAULT_GRACE_MS : 0);
    }
}

/* ---- The end ---- */

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
    if (!s->run.store_disk[0] || s->vm.backend->quit(vmm->control_fd) < 0)
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
    if (s->paused && s->vm.now) { /* or the guest could not do its part */
        idle_pause_set_clock(supervisor_guest(s));
        (void)!s->vm.backend->resume(s->vm.now->control_fd);
    }
    if (s->state == READY || strcmp(s->status.state, "failed") != 0)
        supervisor_set_state(s, STOPPING, "stopping");
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

/* An end that the guest did not announce. */
static void describe_reset(const struct supervisor *s, char *out, size_t size)
{
    char line[200];
    lastwords_telling(&s->console, line, sizeof(line));
    snprintf(out, size, "failed: the guest panicked or was reset%s%s", line[0] ? ": " : "", line);
}

/* For `ls` and `logs` after the end. */
static void write_last(struct supervisor *s, int status)
{
    char why[256];
    if (s->asked_to_stop)
        snprintf(why, sizeof(why), "stopped");
    else if (s->cut_off || strcmp(s->status.state, "failed") == 0)
        snprintf(why, sizeof(why), "failed: %.200s", s->status.problem);
    else if (s->ending)
        snprintf(why, sizeof(why), "%s", s->ending);
    else if (WIFSIGNALED(status))
        snprintf(why, sizeof(why), "%s was killed by signal %d", s->run.backend, WTERMSIG(status));
    else if (WEXITSTATUS(status))
        snprintf(why, sizeof(why), "%s exited with status %d", s->run.backend, WEXITSTATUS(status));
    else if (s->vm.by_host)
        snprintf(why, sizeof(why), "%s was told to end by another process", s->run.backend);
    else
        describe_reset(s, why, sizeof(why));
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_string(o, "ended", why);
    json_add_int(o, "ended_at", (int64_t)clock_wall());
    (void)!json_save(s->dirfd, VMDIR_LAST, o, 0600, false, NULL);
}

static void on_settled(void *owner)
{
    struct supervisor *s = owner;
    uv_stop(&s->loop);
}

static void on_vm_ended(void *owner, int status)
{
    struct supervisor *s = owner;
    router_set_guest(s->router, false, why_gone(s));
    requests_ended(s);
    if (s->state == STARTING) {
        int code = process_exit_code(status);
        char line[200];
        lastwords_telling(&s->console, line, sizeof(line));
        if (code == 0)
            fail(s, "%s before its agent was ready%s%s", s->ending ? s->ending : "the guest ended", line[0] ? ": " : "",
                 line);
        else
            fail(s, "%s ended with status %d before the guest was ready", s->run.backend, code);
    }
    if (s->state == READY && !s->told) {
        snprintf(s->status.services, sizeof(s->status.services), SERVICES_FAILED);
        snprintf(s->status.services_problem, sizeof(s->status.services_problem),
                 "the guest ended before its services were ready");
        say_ready(s);
    }
    write_last(s, status);
    if (!vm_settle(&s->vm))
        uv_stop(&s->loop);
}

static const struct vm_ops vm_ops = {
    .channel = &conn_ops,
    .console = on_console,
    .log = on_vm_log,
    .changed = on_vm_changed,
    .agent = on_agent,
    .lost = on_vm_lost,
    .event = on_vm_event,
    .ended = on_vm_ended,
    .settled = on_settled,
};

static void on_ready_timeout(uv_timer_t *t)
{
    struct supervisor *s = t->data;
    if (s->state == READY) { /* but its services are not: that is said, and the VM stays to be looked at */
        say_ready(s);
        return;
    }
    fail(s, "the guest's agent was not ready within %.1f s%s", (double)s->run.timeout_ms / 1000,
         s->status.hello_ns ? " (it said hello, but did not finish its set-up)" : "");
}

static void on_signal(uv_signal_t *h, int sig)
{
    struct supervisor *s = h->data;
    s->asked_to_stop = true;
    supervisor_stop(s, DEFAULT_GRACE_MS);
}

/* ---- Start ---- */

static void on_small_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    static char chunk[4096]; /* used up before the next read */
    *b = uv_buf_init(chunk, sizeof(chunk));
}

static int open_pipe(struct supervisor *s, uv_pipe_t *p, int fd, uv_read_cb on_read)
{
    int r = uv_pipe_init(&s->loop, p, 0);
    p->data = s;
    if (r == 0)
        r = uv_pipe_open(p, fd);
    if (r == 0 && on_read)
        r = uv_read_start((uv_stream_t *)p, on_small_alloc, on_read);
    return r;
}

static int listen_clients(struct supervisor *s)
{
    CLEAN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    struct sockaddr_un a = vmdir_socket_address(s->dirfd);
    mode_t old = umask(0177);
    int r = bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
    umask(old);
    if (r == 0 && listen(fd, MAX_CLIENTS) < 0)
        r = -errno;
    if (r == 0)
        r = uv_pipe_init(&s->loop, &s->listener, 0);
    s->listener.data = s;
    if (r == 0)
        r = uv_pipe_open(&s->listener, TAKE_FD(fd));
    if (r == 0)
        r = uv_listen((uv_stream_t *)&s->listener, MAX_CLIENTS, on_client);
    return r;
}

/* The VMM is started before anything else is set up: everything else happens while it loads. */
static int supervisor_start(struct supervisor *s, int starter_fd, uint64_t begun_at, struct mvm_error *err)
{
    s->vm = (struct vm){
        .loop = &s->loop, .run = &s->run, .launcher = &s->launcher, .dirfd = s->dirfd, .ops = &vm_ops, .owner = s};
    steps_add(&s->vm.steps, "supervisor-init", begun_at);
    int r = vm_start(&s->vm, err);
    if (r < 0)
        return r;
    uint64_t since = clock_now();
    s->status.spawn_ns = since_start(s);
    r = open_pipe(s, &s->starter, starter_fd, on_starter);
    if (r == 0)
        r = listen_clients(s);
    steps_add(&s->vm.steps, "control-socket", since);
    return r < 0 ? mvm_error_errno(err, r, "cannot set up the supervisor") : 0;
}

static struct conn *guest_of(void *owner)
{
    return supervisor_guest(owner);
}

/* As many clients as there may be descriptors; some are for everything else. */
static void init_clients(struct supervisor *s)
{
    enum { OTHERS = 64 };
    struct rlimit l;
    s->max_clients = MAX_CLIENTS;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < MAX_CLIENTS + OTHERS) {
        l.rlim_cur = MIN_OF(l.rlim_max, (rlim_t)MAX_CLIENTS + OTHERS);
        (void)!setrlimit(RLIMIT_NOFILE, &l);
        s->max_clients = (unsigned)MAX_OF(l.rlim_cur, (rlim_t)2 * OTHERS) - OTHERS;
    }
    clients_init(&s->clients, &s->loop);
    s->clients.may_go_on = client_may_go_on;
    guard_init(&s->guard, &s->loop);
    s->guard.guest = guest_of;
    halt_init(&s->halt, &s->loop);
    s->halt.vm = &s->vm;
    s->halt.may_ask = may_ask_halted;
    s->hostclock = (struct hostclock){.jumped = on_clock_jumped, .owner = s};
    hostclock_watch(&s->hostclock, &s->loop);
    s->clients.owner = s->guard.owner = s->halt.owner = s;
}

static int supervisor_init(struct supervisor *s, int dirfd)
{
    s->dirfd = dirfd;
    s->console_log = (struct logfile)LOGFILE_INIT(dirfd, VMDIR_CONSOLE, CONSOLE_CAP);
    s->agent_log = (struct logfile)LOGFILE_INIT(dirfd, VMDIR_AGENT, AGENT_CAP);
    supervisor_set_state(s, STARTING, "starting");
    s->router = router_new(&router_ops, s);
    if (!s->router || uv_loop_init(&s->loop) < 0)
        return -ENOMEM;
    uv_timer_init(&s->loop, &s->timer);
    s->timer.data = s;
    requests_init(s);
    init_clients(s);
    uv_timer_init(&s->loop, &s->idle);
    uv_timer_init(&s->loop, &s->channel_lost);
    s->idle.data = s->channel_lost.data = s;
    static const int sigs[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < ARRAY_SIZE(sigs); i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, sigs[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

/* A transient VM leaves nothing; of others the logs stay until `down` or the next `up` of that name. */
static void remove_traces(struct supervisor *s)
{
    unlinkat(s->dirfd, VMDIR_SOCKET, 0);
    if (!s->run.transient || strcmp(s->status.state, "failed") == 0)
        return;
    CLEAN_FD int vms = openat(s->dirfd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (vms >= 0)
        (void)!path_remove_tree(vms, s->run.name);
}

int supervisor_main(int argc, char **argv)
{
    uint64_t begun_at = clock_now();
    /* A fourth descriptor is only held: it closes with this process. */
    if (argc != 3 && !(argc == 4 && fd_set_cloexec(atoi(argv[3]), true) == 0))
        return 2;
    int dirfd = atoi(argv[0]), lock_fd = atoi(argv[1]), starter_fd = atoi(argv[2]);
    if (fd_set_cloexec(dirfd, true) < 0 || fd_set_cloexec(lock_fd, true) < 0 || fd_set_cloexec(starter_fd, true) < 0)
        return 2;
    prctl(PR_SET_NAME, "mvm-supervisor");
    struct mvm_error err = MVM_ERROR_INIT;
    static struct supervisor s = {.launcher = {.fd = -1}};
    int r = runfile_load(&s.run, dirfd, &err);
    if (r == 0) /* before libuv's first loop, whose handlers would follow each fork */
        r = launcher_start(&s.launcher, &s.run, dirfd, &err);
    if (supervisor_init(&s, dirfd) < 0)
        return 1;
    if (r == 0)
        r = supervisor_confine(&s, &err);
    if (r == 0) {
        uv_timer_start(&s.timer, on_ready_timeout, s.run.timeout_ms, 0);
        r = supervisor_start(&s, starter_fd, begun_at, &err);
    }
    if (r < 0) {
        snprintf(s.status.state, sizeof(s.status.state), "failed");
        snprintf(s.status.problem, sizeof(s.status.problem), "%.1023s", err.msg);
        snprintf(s.status.hint, sizeof(s.status.hint), "%s", err.hint);
        CLEAN_BUF struct buf m = BUF_INIT(FRAME_MAX_PAYLOAD);
        if (msg_status_encode(&m, &s.status) == 0)
            (void)!send(starter_fd, m.data, m.len, MSG_NOSIGNAL);
        if (s.vm.now)
            process_done(&s.vm.now->process);
        vm_done(&s.vm);
        launcher_stop(&s.launcher);
        remove_traces(&s);
        return 1;
    }
    uv_run(&s.loop, UV_RUN_DEFAULT);
    vm_done(&s.vm);
    launcher_stop(&s.launcher);
    remove_traces(&s);
    /* The clients' connections and the lock end with the process. */
    return 0;
}
