#include "supervisor/guest_streams.h"
#include "wire/msg.h"

#include <errno.h>
#include <string.h>

#define LARGE_WINDOW (256u * 1024)
_Static_assert(GUEST_STREAMS *MUX_LEAST_WINDOW <= GUEST_WINDOWS, "all streams together get no more");

static struct guest_stream *find(struct guest_streams *s, uint32_t number)
{
    struct guest_stream *g = s->first;
    while (g && g->number != number)
        g = g->next;
    return g;
}

/* ---- From the guest ---- */

static int on_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    struct guest_stream *g = find(data, stream);
    if (!g || g->finished || channel != CHAN_OUT)
        mux_consumed(((struct guest_streams *)data)->mux, stream, n);
    else
        g->ops->record(g, p, n);
    return 0;
}

static void on_closed(void *data, uint32_t stream)
{
    struct guest_stream *g = find(data, stream);
    if (g && !g->finished)
        g->ops->closed(g);
}

static void on_reset(void *data, uint32_t stream, const char *reason)
{
    struct guest_stream *g = find(data, stream);
    if (g && !g->finished)
        g->ops->reset(g, reason);
}

static const struct mux_events events = {.record = on_record, .closed = on_closed, .reset = on_reset};

void guest_streams_input(struct guest_streams *s, const void *p, size_t n)
{
    s->dirty = true;
    (void)!mux_input(s->mux, p, n); /* the router passes on nothing that breaks the protocol */
}

/* ---- To the guest ---- */

/* The router changes what it is given, and takes whole frames only. */
static void send_all(struct guest_streams *s)
{
    const uint8_t *p;
    for (size_t n; (n = mux_output(s->mux, &p)) > 0;) {
        const char *why;
        bool waits;
        int r = buf_append(&s->out, p, n);
        mux_sent(s->mux, n);
        ssize_t used = r < 0 ? r : router_from_client(s->router, s->client, s->out.data, s->out.len, &waits, &why);
        if (used > 0)
            buf_drop(&s->out, (size_t)used);
    }
}

/* Gives back what has ended on both sides, and tells who waits. True where a stream has gone. */
static bool settle(struct guest_streams *s)
{
    bool gone = false;
    for (struct guest_stream **at = &s->first; *at;) {
        struct guest_stream *g = *at;
        if (g->finished && !mux_has(s->mux, g->number)) {
            *at = g->next;
            s->n--;
            s->windows -= g->window;
            gone = true;
            g->ops->gone(g);
            continue;
        }
        if (g->waits && mux_can_send(s->mux, g->number)) {
            g->waits = false;
            g->ops->writable(g);
        }
        at = &g->next;
    }
    return gone;
}

static void on_prepare(uv_prepare_t *h)
{
    struct guest_streams *s = h->data;
    while (s->dirty) {
        s->dirty = false;
        send_all(s);
        if (settle(s))
            s->room(s->owner);
    }
}

/* ---- Streams ---- */

uint64_t guest_streams_room(const struct guest_streams *s, uint64_t least)
{
    uint64_t left = GUEST_WINDOWS - s->windows;
    if (!router_guest_is_up(s->router) || s->n >= GUEST_STREAMS || left < least)
        return 0;
    bool many = left < LARGE_WINDOW + (uint64_t)(GUEST_STREAMS - s->n - 1) * MUX_LEAST_WINDOW;
    return many ? least : MAX_OF((uint64_t)LARGE_WINDOW, least);
}

int guest_stream_open(struct guest_streams *s, struct guest_stream *g, uint16_t port, uint8_t protocol, uint64_t window)
{
    const struct msg_connect m = {.port = port, .protocol = protocol, .window = window};
    CLEAN_BUF struct buf b = BUF_INIT(256);
    int64_t number = msg_connect_encode(&b, &m);
    if (number == 0)
        number = mux_open(s->mux, &b);
    if (number < 0)
        return (int)number;
    mux_set_window(s->mux, (uint32_t)number, window);
    g->of = s;
    g->number = (uint32_t)number;
    g->window = window;
    g->waits = g->finished = false;
    g->next = s->first;
    s->first = g;
    s->n++;
    s->windows += window;
    s->dirty = true;
    return 0;
}

bool guest_stream_may_send(struct guest_stream *g)
{
    g->waits = !mux_can_send(g->of->mux, g->number);
    return !g->waits;
}

int guest_stream_send(struct guest_stream *g, const void *p, size_t n)
{
    g->of->dirty = true;
    return mux_send(g->of->mux, g->number, CHAN_OUT, p, n);
}

void guest_stream_consumed(struct guest_stream *g, size_t n)
{
    g->of->dirty = true;
    mux_consumed(g->of->mux, g->number, n);
}

void guest_stream_close(struct guest_stream *g)
{
    g->of->dirty = true;
    mux_close(g->of->mux, g->number);
}

void guest_stream_reset(struct guest_stream *g, const char *why)
{
    g->of->dirty = true;
    mux_reset(g->of->mux, g->number, why);
}

void guest_stream_finish(struct guest_stream *g)
{
    g->of->dirty = g->finished = true;
}

/* ---- All of them ---- */

int guest_streams_init(struct guest_streams *s, uv_loop_t *loop, struct router *r)
{
    s->router = r;
    s->out.max = 2 * (4 * FRAME_MAX_SIZE) + FRAME_MAX_SIZE;
    s->mux = mux_new(true, &events, s);
    s->client = router_add_publisher(r, s);
    if (!s->mux || !s->client)
        return -ENOMEM;
    int e = uv_prepare_init(loop, &s->prepare);
    s->prepare.data = s;
    return e < 0 ? e : uv_prepare_start(&s->prepare, on_prepare);
}

void guest_streams_done(struct guest_streams *s)
{
    if (s->client)
        router_remove_client(s->router, s->client);
    s->client = NULL;
    mux_free(s->mux);
    s->mux = NULL;
    buf_done(&s->out);
}
