/* The connections of a supervisor, to its guest and to its clients: what comes in goes through the router, who causes
 * too much is not read, who breaks the protocol is cut off. */
#include "base/clock.h"
#include "base/fd.h"
#include "host/os.h"
#include "supervisor/internal.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define VMM_END_MS      1000       /* a VMM that ends closes the channel first */
#define GUEST_QUEUE_MAX (4u << 20) /* above it no client is read that sends anything */
#define ANSWERS_MAX     (4u << 20) /* above it a client is not read that does not read what it asked for */
#define CLIENT_QUEUES   (ROUTER_GRANTS + (4u << 20)) /* above it the client that reads least is cut off */

static void to_guest(void *data, const void *p, size_t n)
{
    struct supervisor *s = data;
    conn_send(supervisor_guest(s), p, n);
}

static void to_client(void *data, void *client, const void *p, size_t n)
{
    struct supervisor *s = data;
    if (publish_is(s->publish, client))
        publish_input(s->publish, p, n);
    else
        conn_send(client, p, n);
}

const struct router_ops supervisor_router_ops = {
    .to_guest = to_guest,
    .to_client = to_client,
    .guest_msg = guest_msg,
    .local = requests_request,
};

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
    starter_fail(s, "the guest's agent broke the protocol: %s", why);
    if (!life_happens(&s->life, LIFE_E_BROKEN))
        return;
    s->cut_off = true;
    snprintf(s->status.problem, sizeof(s->status.problem), "the guest was cut off: %.900s", why);
}

static void on_halted(void *owner)
{
    struct supervisor *s = owner;
    static const char why[] = "the guest has halted: its processors wait with interrupts off, and nothing wakes them";
    logfile_printf(&s->agent_log, "mvm: %s\n", why);
    if (!life_happens(&s->life, LIFE_E_HALTED))
        return;
    s->cut_off = true;
    snprintf(s->status.problem, sizeof(s->status.problem), "%s", why);
    router_set_guest(s->router, false, why);
    publish_guest(s->publish, false);
    halt_watch(&s->halt, false);
}

/* What a VMM is not asked in the middle of. */
static bool may_ask_halted(void *owner)
{
    const struct supervisor *s = owner;
    return s->life.stage == LIFE_READY && !s->serving.type && s->live_save.stage == LIVE_SAVE_IDLE &&
           run_state_is_running(&s->vm.processors);
}

/* The host slept, or its clock was set. */
static void on_clock_jumped(void *owner)
{
    struct supervisor *s = owner;
    if (s->life.stage == LIFE_READY && run_state_is_running(&s->vm.processors))
        run_state_set_clock(supervisor_guest(s));
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

static void on_gone(struct conn *c)
{
    struct supervisor *s = c->owner;
    if (!c->client) {
        if (c == supervisor_guest(s))
            s->vm.now->channel = NULL;
        supervisor_say_state(s);
        router_set_guest(s->router, false, supervisor_why_gone(s));
        publish_guest(s->publish, false);
        clients_wake(&s->clients);
        uv_timer_start(&s->channel_lost, on_channel_lost, VMM_END_MS, 0);
        return;
    }
    requests_gone(s, c);
    publish_untie(s->publish, c);
    clients_remove(&s->clients, c);
    clients_wake(&s->clients);
    if (c->used)
        s->used_at = clock_now();
    supervisor_watch_idle(s);
    router_remove_client(s->router, c->client);
    if (!router_is_used(s->router))
        halt_watch(&s->halt, false);
}

const struct conn_ops supervisor_conn_ops = {
    .frames = on_frames, .drained = on_drained, .cut_off = on_cut_off, .gone = on_gone};

static void on_client(uv_stream_t *listener, int status)
{
    struct supervisor *s = listener->data;
    struct conn *c = status == 0 ? conn_new_client(&s->loop, &supervisor_conn_ops, s) : NULL;
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

int connections_listen(struct supervisor *s)
{
    CLEAN_FD int fd = os_socket(AF_UNIX, SOCK_STREAM);
    if (fd < 0)
        return fd;
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

static struct conn *guest_of(void *owner)
{
    return supervisor_guest(owner);
}

/* As many clients as there may be descriptors; some are for everything else. */
void connections_init(struct supervisor *s)
{
    enum { OTHERS = 64 + GUEST_STREAMS + PORTS_MAX };
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
    s->halt.halted = on_halted;
    s->hostclock = (struct hostclock){.jumped = on_clock_jumped, .owner = s};
    hostclock_watch(&s->hostclock, &s->loop);
    s->clients.owner = s->guard.owner = s->halt.owner = s;
}
