#include "supervisor/publish_datagrams.h"
#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SWEEP_MS 5000

struct flow {
    struct flow *next;
    struct datagrams *of; /* NULL once it has ended */
    struct guest_stream stream;
    struct sockaddr_storage peer;
    uint64_t used_at;
};

static uint8_t chunk[FRAME_MAX_PAYLOAD];

static struct flow *of(struct guest_stream *g)
{
    return (struct flow *)((char *)g - offsetof(struct flow, stream));
}

static socklen_t length(const struct sockaddr *a)
{
    return a->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* ---- Flows ---- */

/* Its socket's no more; the memory is when the stream has gone. */
static void end_flow(struct flow *f)
{
    struct datagrams *d = f->of;
    for (struct flow **at = &d->first; *at; at = &(*at)->next) {
        if (*at == f) {
            *at = f->next;
            d->n--;
            break;
        }
    }
    f->of = NULL;
    guest_stream_finish(&f->stream);
}

static void drop_flow(struct flow *f, const char *why)
{
    guest_stream_reset(&f->stream, why);
    end_flow(f);
}

static void on_record(struct guest_stream *g, const void *p, size_t n)
{
    struct flow *f = of(g);
    uv_buf_t b = uv_buf_init((char *)(uintptr_t)p, (unsigned)n);
    f->used_at = clock_now();
    guest_stream_consumed(g, n);
    (void)!uv_udp_try_send(&f->of->socket, &b, 1, (const struct sockaddr *)&f->peer);
}

static void on_closed(struct guest_stream *g)
{
    drop_flow(of(g), "the flow has ended");
}

static void on_reset(struct guest_stream *g, const char *why)
{
    end_flow(of(g));
}

static void on_gone(struct guest_stream *g)
{
    free(of(g));
}

static const struct guest_stream_ops ops = {
    .record = on_record, .closed = on_closed, .reset = on_reset, .gone = on_gone};

static struct flow *find(const struct datagrams *d, const struct sockaddr *peer)
{
    struct flow *f = d->first;
    while (f && memcmp(&f->peer, peer, length(peer)) != 0)
        f = f->next;
    return f;
}

static struct flow *idlest(const struct datagrams *d)
{
    struct flow *found = d->first;
    for (struct flow *f = d->first; f; f = f->next)
        if (f->used_at < found->used_at)
            found = f;
    return found;
}

static void on_timer(uv_timer_t *t)
{
    struct datagrams *d = t->data;
    uint64_t now = clock_now();
    for (struct flow *f = d->first, *next; f; f = next) {
        next = f->next;
        if (now - f->used_at > FLOW_IDLE_MS * NSEC_PER_MSEC)
            drop_flow(f, "the flow is idle");
    }
    if (!d->first)
        uv_timer_stop(t);
}

/* The window of what ends here is free in the next round of the loop: this datagram is lost where there is no room. */
static struct flow *new_flow(struct datagrams *d, const struct sockaddr *peer)
{
    if (d->first && (d->n >= FLOWS_MAX || guest_streams_room(d->streams, FLOW_WINDOW) < FLOW_WINDOW))
        drop_flow(idlest(d), "another flow takes its place");
    struct flow *f = guest_streams_room(d->streams, FLOW_WINDOW) ? calloc(1, sizeof(*f)) : NULL;
    if (!f)
        return NULL;
    f->stream.ops = &ops;
    if (guest_stream_open(d->streams, &f->stream, d->spec->guest, d->spec->protocol, FLOW_WINDOW) < 0) {
        free(f);
        return NULL;
    }
    f->of = d;
    memcpy(&f->peer, peer, length(peer));
    f->next = d->first;
    d->first = f;
    d->n++;
    if (!uv_is_active((uv_handle_t *)&d->timer))
        uv_timer_start(&d->timer, on_timer, SWEEP_MS, SWEEP_MS);
    return f;
}

/* ---- The socket ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    *b = uv_buf_init((char *)chunk, sizeof(chunk));
}

static void on_datagram(uv_udp_t *h, ssize_t n, const uv_buf_t *b, const struct sockaddr *peer, unsigned flags)
{
    struct datagrams *d = h->data;
    if (n <= 0 || !peer || (flags & UV_UDP_PARTIAL)) /* an empty one is no record */
        return;
    struct flow *f = find(d, peer);
    if (!f)
        f = new_flow(d, peer);
    if (!f)
        return;
    f->used_at = clock_now();
    (void)!guest_stream_send(&f->stream, b->base, (size_t)n);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct datagrams *d = h->data;
    if (--d->handles == 0)
        d->closed(d->owner);
}

int datagrams_init(struct datagrams *d, uv_loop_t *loop)
{
    int r = uv_timer_init(loop, &d->timer);
    if (r == 0)
        r = uv_udp_init(loop, &d->socket);
    d->timer.data = d->socket.data = d;
    d->handles = 2;
    return r;
}

int datagrams_start(struct datagrams *d)
{
    /* libuv has set it on opening, and another user's process could share the port then (ip(7), SO_REUSEADDR). */
    uv_os_fd_t fd;
    const int off = 0;
    if (uv_fileno((uv_handle_t *)&d->socket, &fd) == 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof(off));
    return uv_udp_recv_start(&d->socket, on_alloc, on_datagram);
}

void datagrams_close(struct datagrams *d)
{
    while (d->first)
        drop_flow(d->first, "the port is published no longer");
    uv_close((uv_handle_t *)&d->timer, on_handle_closed);
    uv_close((uv_handle_t *)&d->socket, on_handle_closed);
}
