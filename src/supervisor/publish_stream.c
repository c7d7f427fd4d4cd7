#include "supervisor/publish_stream.h"

#include <errno.h>

/* One loop, one read at a time: all connections read into this. */
static uint8_t chunk[FRAME_MAX_PAYLOAD];

static struct published *of(struct guest_stream *g)
{
    return (struct published *)((char *)g - offsetof(struct published, stream));
}

/* ---- The end ---- */

static void on_gone(struct guest_stream *g)
{
    struct published *p = of(g);
    p->gone(p->owner, p);
}

static void on_socket_closed(uv_handle_t *h)
{
    struct published *p = h->data;
    outqueue_done(&p->out);
    if (p->opened)
        guest_stream_finish(&p->stream);
    else
        p->gone(p->owner, p);
}

/* The client sees a reset where that is what it was. */
static void close_socket(struct published *p, bool reset)
{
    if (p->closing)
        return;
    p->closing = true;
    if (!reset || !p->is_tcp || uv_tcp_close_reset(&p->tcp, on_socket_closed) < 0)
        uv_close(&p->handle, on_socket_closed);
}

static void close_if_done(struct published *p)
{
    if (p->client_ended && p->shut && !p->out.first)
        close_socket(p, false);
}

void published_reset(struct published *p, const char *why)
{
    if (p->closing)
        return;
    guest_stream_reset(&p->stream, why);
    close_socket(p, true);
}

/* ---- To the client ---- */

static void on_shut(uv_shutdown_t *req, int status)
{
    struct published *p = req->data;
    p->shut = true;
    if (!p->closing)
        close_if_done(p);
}

static void end_output(struct published *p)
{
    if (!p->guest_ended || p->out.first || p->shut || p->shutting.data)
        return;
    p->shutting.data = p;
    if (uv_shutdown(&p->shutting, &p->socket, on_shut) < 0)
        published_reset(p, "the client went away");
}

static void write_next(struct published *p);

static void on_written(uv_write_t *req, int status)
{
    struct published *p = req->data;
    size_t n = p->out.first->len;
    outqueue_drop(&p->out);
    if (p->closing)
        return;
    if (status < 0) {
        published_reset(p, "the client went away");
        return;
    }
    guest_stream_consumed(&p->stream, n);
    write_next(p);
    end_output(p);
}

static void write_next(struct published *p)
{
    struct block *b = p->out.first_is_taken ? NULL : outqueue_take(&p->out);
    if (!b)
        return;
    uv_buf_t buf = uv_buf_init((char *)b->data, (unsigned)b->len);
    p->writing.data = p;
    if (uv_write(&p->writing, &p->socket, &buf, 1, on_written) < 0) {
        outqueue_done(&p->out);
        published_reset(p, "the client went away");
    }
}

static void on_record(struct guest_stream *g, const void *bytes, size_t n)
{
    struct published *p = of(g);
    if (p->closing)
        return;
    if (!p->out.first) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)n);
        int w = uv_try_write(&p->socket, &b, 1);
        if (w > 0) {
            guest_stream_consumed(g, (size_t)w);
            bytes = (const uint8_t *)bytes + w;
            n -= (size_t)w;
        }
        if (n == 0)
            return;
    }
    if (outqueue_add(&p->out, bytes, n))
        write_next(p);
    else
        published_reset(p, "out of memory");
}

static void on_guest_closed(struct guest_stream *g)
{
    struct published *p = of(g);
    p->guest_ended = true;
    if (!p->closing)
        end_output(p);
}

static void on_guest_reset(struct guest_stream *g, const char *why)
{
    close_socket(of(g), true);
}

/* ---- To the guest ---- */

/* What is read at once fits a record. */
static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    const struct published *p = h->data;
    *b = uv_buf_init((char *)chunk, (unsigned)mux_record_max(p->stream.window));
}

static void on_read(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct published *p = st->data;
    if (n == 0 || p->closing)
        return;
    if (n == UV_EOF) {
        p->client_ended = true;
        uv_read_stop(st);
        guest_stream_close(&p->stream);
        close_if_done(p);
        return;
    }
    if (n < 0 || guest_stream_send(&p->stream, b->base, (size_t)n) < 0) {
        published_reset(p, "the client went away");
        return;
    }
    p->reading = guest_stream_may_send(&p->stream);
    if (!p->reading)
        uv_read_stop(st);
}

static void on_writable(struct guest_stream *g)
{
    struct published *p = of(g);
    if (p->closing || p->client_ended || p->reading)
        return;
    p->reading = true;
    (void)!uv_read_start(&p->socket, on_alloc, on_read);
}

static const struct guest_stream_ops ops = {
    .record = on_record, .closed = on_guest_closed, .reset = on_guest_reset, .writable = on_writable, .gone = on_gone};

int published_accept(struct published *p, uv_stream_t *listener, struct guest_streams *streams,
                     const struct port_spec *spec)
{
    p->is_tcp = !spec->path[0];
    int r = p->is_tcp ? uv_tcp_init(listener->loop, &p->tcp) : uv_pipe_init(listener->loop, &p->pipe, 0);
    if (r < 0) {
        p->gone(p->owner, p);
        return r;
    }
    p->handle.data = p;
    r = uv_accept(listener, &p->socket);
    if (r < 0) {
        p->closing = true;
        uv_close(&p->handle, on_socket_closed);
        return r;
    }
    if (p->is_tcp)
        (void)!uv_tcp_nodelay(&p->tcp, 1);
    p->stream.ops = &ops;
    uint64_t window = guest_streams_room(streams, MUX_LEAST_WINDOW);
    p->opened = window && guest_stream_open(streams, &p->stream, spec->guest, spec->protocol, window) == 0;
    p->reading = p->opened;
    if (!p->opened || uv_read_start(&p->socket, on_alloc, on_read) < 0)
        close_socket(p, true);
    return 0;
}
