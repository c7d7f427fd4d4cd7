#include "net/stack.h"
#include "base/clock.h"
#include "net/layout.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct stack_timer {
    struct stack_timer *next;
    SlirpTimerId id;
    void *data;
    int64_t at_ms; /* -1: not set */
};

/* ---- What libslirp asks for ---- */

static ssize_t on_frame(const void *p, size_t n, void *opaque)
{
    struct stack *s = opaque;
    s->ops->frame(s->owner, p, n);
    return (ssize_t)n;
}

/* What a guest does wrong is its own matter. */
static void on_guest_error(const char *message, void *opaque)
{
}

static int64_t on_clock(void *opaque)
{
    return (int64_t)clock_now();
}

static void *on_timer_new(SlirpTimerId id, void *data, void *opaque)
{
    struct stack *s = opaque;
    struct stack_timer *t = malloc(sizeof(*t));
    if (!t)
        return NULL;
    *t = (struct stack_timer){.next = s->timers, .id = id, .data = data, .at_ms = -1};
    return s->timers = t;
}

static void on_timer_free(void *timer, void *opaque)
{
    struct stack *s = opaque;
    for (struct stack_timer **at = &s->timers; *at; at = &(*at)->next)
        if (*at == timer) {
            *at = (*at)->next;
            free(timer);
            return;
        }
}

static void on_timer_mod(void *timer, int64_t at_ms, void *opaque)
{
    struct stack_timer *t = timer;
    if (t)
        t->at_ms = at_ms;
}

/* Every round begins with all descriptors. */
static void on_poll_fd(int fd, void *opaque)
{
}

static void on_notify(void *opaque)
{
}

static const SlirpCb callbacks = {
    .send_packet = on_frame,
    .guest_error = on_guest_error,
    .clock_get_ns = on_clock,
    .timer_new_opaque = on_timer_new,
    .timer_free = on_timer_free,
    .timer_mod = on_timer_mod,
    .register_poll_fd = on_poll_fd,
    .unregister_poll_fd = on_poll_fd,
    .notify = on_notify,
};

/* ---- A round ---- */

static int add_fd(struct stack *s, int fd, short events)
{
    if (s->n_fds == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        struct pollfd *more = reallocarray(s->fds, room, sizeof(*more));
        if (!more)
            return -1;
        s->fds = more;
        s->room = room;
    }
    s->fds[s->n_fds] = (struct pollfd){.fd = fd, .events = events};
    return (int)s->n_fds++;
}

static int on_add_poll(int fd, int events, void *opaque)
{
    const struct stack *s = opaque;
    if (s->rest && !(events & SLIRP_POLL_OUT))
        return -1;
    if (s->rest)
        events = SLIRP_POLL_OUT;
    short want = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                         (events & SLIRP_POLL_PRI ? POLLPRI : 0));
    return add_fd(opaque, fd, want);
}

static int on_get_events(int at, void *opaque)
{
    const struct stack *s = opaque;
    if (at < 0 || (size_t)at >= s->n_fds)
        return 0;
    short is = s->fds[at].revents;
    return (is & POLLIN ? SLIRP_POLL_IN : 0) | (is & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (is & POLLPRI ? SLIRP_POLL_PRI : 0) | (is & POLLERR ? SLIRP_POLL_ERR : 0) |
           (is & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static void lower(uint32_t *timeout, int64_t ms)
{
    if (ms >= 0 && ms < (int64_t)*timeout)
        *timeout = (uint32_t)ms;
}

static void run_timers(struct stack *s)
{
    int64_t now = (int64_t)(clock_now() / NSEC_PER_MSEC);
    for (struct stack_timer *t = s->timers, *next; t; t = next) {
        next = t->next;
        if (t->at_ms < 0 || t->at_ms > now)
            continue;
        t->at_ms = -1;
        s->lib->handle_timer(s->slirp, t->id, t->data);
    }
}

int stack_poll(struct stack *s, struct pollfd *own, size_t n, bool rest, int timeout_ms)
{
    uint32_t timeout = INT32_MAX;
    int64_t now = (int64_t)(clock_now() / NSEC_PER_MSEC);
    s->n_fds = 0;
    s->rest = rest;
    for (size_t i = 0; i < n; i++)
        if (add_fd(s, own[i].fd, own[i].events) < 0)
            return -ENOMEM;
    lower(&timeout, timeout_ms);
    s->lib->pollfds_fill(s->slirp, &timeout, on_add_poll, s);
    for (const struct stack_timer *t = s->timers; t; t = t->next)
        lower(&timeout, t->at_ms < 0 ? -1 : t->at_ms > now ? t->at_ms - now : 0);
    int r = poll(s->fds, s->n_fds, timeout == INT32_MAX ? -1 : (int)timeout);
    if (r < 0 && errno != EINTR)
        return -errno;
    for (size_t i = 0; i < n; i++)
        own[i].revents = r < 0 ? 0 : s->fds[i].revents;
    s->lib->pollfds_poll(s->slirp, r < 0, on_get_events, s);
    run_timers(s);
    return 0;
}

void stack_input(struct stack *s, const void *frame, size_t n)
{
    s->lib->input(s->slirp, frame, (int)n);
}

/* A gratuitous ARP request (RFC 5227, "ARP announcement"). */
void stack_announce(struct stack *s, const uint8_t mac[static 6], const uint8_t ip[static 4])
{
    uint8_t frame[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 0x08, 0x06,
                         0x00, 0x01, 0x08, 0x00, 6,    4,    0x00,        0x01};
    memcpy(frame + 6, mac, 6);
    memcpy(frame + 22, mac, 6);
    memcpy(frame + 28, ip, 4);
    memcpy(frame + 38, ip, 4);
    stack_input(s, frame, sizeof(frame));
}

/* ---- Life ---- */

static struct in_addr address(const char *text)
{
    struct in_addr a = {0};
    (void)inet_pton(AF_INET, text, &a);
    return a;
}

static struct in6_addr address6(const char *text)
{
    struct in6_addr a = {0};
    (void)inet_pton(AF_INET6, text, &a);
    return a;
}

int stack_init(struct stack *s, bool host, const struct address *guest4, const struct stack_ops *ops, void *owner,
               struct mvm_error *err)
{
    struct in_addr lease;
    memcpy(&lease, address_v4(guest4), sizeof(lease));
    const SlirpConfig c = {
        .version = 4,
        .in_enabled = true,
        .vnetwork = address(NET_SUBNET),
        .vnetmask = address("255.255.255.0"),
        .vhost = address(NET_GATEWAY),
        .vdhcp_start = lease,
        .vnameserver = address(NET_DNS),
        .in6_enabled = true,
        .vprefix_addr6 = address6(NET_SUBNET6),
        .vprefix_len = NET_BITS6,
        .vhost6 = address6(NET_GATEWAY6),
        .vnameserver6 = address6(NET_DNS6),
        .if_mtu = NET_MTU,
        .if_mru = NET_MTU,
        .disable_host_loopback = !host,
        .disable_dns = true, /* it would ask the host's resolvers whatever the guest asks */
    };
    *s = (struct stack){.lib = libslirp_load(err), .ops = ops, .owner = owner};
    if (!s->lib)
        return -ENOENT;
    s->slirp = s->lib->new (&c, &callbacks, s);
    return s->slirp ? 0 : mvm_error_set(err, -EINVAL, "libslirp refuses its settings");
}

void stack_done(struct stack *s)
{
    if (s->slirp)
        s->lib->cleanup(s->slirp);
    s->slirp = NULL;
    free(s->fds);
    s->fds = NULL;
}
