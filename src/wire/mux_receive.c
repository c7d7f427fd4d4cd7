#include "wire/mux_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_peers(const struct mux *m, uint32_t number)
{
    return ((number & 1) == 1) != m->opener;
}

static int on_open(struct mux *m, const struct frame *f)
{
    if (!is_peers(m, f->stream) || f->stream <= m->last_peer)
        return mux_broken(m, "stream number out of order");
    m->last_peer = f->stream;
    if (!m->events.open) {
        mux_send_reset(m, f->stream, "no requests are served here");
        return 0;
    }
    if (!mux_add_stream(m, f->stream)) {
        mux_send_reset(m, f->stream,
                       m->n_streams < MUX_MAX_STREAMS ? "out of memory"
                                                      : "384 streams are open already, which is the limit");
        return 0;
    }
    int r = m->events.open(m->data, f->stream, f->payload, f->len);
    if (r < 0 && mux_find(m, f->stream))
        mux_reset(m, f->stream, strerror(-r));
    return 0;
}

static int on_record(struct mux *m, const struct frame *f)
{
    int r = m->events.record ? m->events.record(m->data, f->stream, f->channel, f->payload, f->len) : 0;
    if (r == 0)
        return 0;
    if (r != -ENOMEM)
        return mux_broken(m, "record that cannot be understood");
    /* That stream suffers, the connection does not. */
    mux_reset(m, f->stream, "out of memory");
    if (m->events.reset)
        m->events.reset(m->data, f->stream, "out of memory");
    return 0;
}

static void tell_reset(struct mux *m, const struct frame *f)
{
    char reason[1025];
    if (!m->events.reset)
        return;
    if (f->len)
        memcpy(reason, f->payload, f->len);
    reason[f->len] = '\0';
    m->events.reset(m->data, f->stream, reason);
}

static int on_stream_frame(struct mux *m, const struct frame *f)
{
    struct mux_stream *s = mux_find(m, f->stream);
    if (!s) {
        bool known = is_peers(m, f->stream) ? f->stream <= m->last_peer : f->stream < m->next_number;
        return known ? 0 : mux_broken(m, "frame for a stream that was never opened");
    }
    switch (f->type) {
    case FRAME_DATA:
        if (s->remote_closed)
            return mux_broken(m, "data after close");
        s->recv_window -= f->len;
        if (s->recv_window < 0)
            return mux_broken(m, "more data than the window allows");
        return on_record(m, f);
    case FRAME_WINDOW:
        s->send_window += frame_window(f);
        return s->send_window > UINT32_MAX ? mux_broken(m, "window too large") : 0;
    case FRAME_CLOSE:
        if (s->remote_closed)
            return mux_broken(m, "closed twice");
        s->remote_closed = true;
        if (m->events.closed)
            m->events.closed(m->data, f->stream);
        s = mux_find(m, f->stream);
        if (s)
            mux_drop_if_finished(m, s);
        return 0;
    default:
        mux_drop(m, s);
        tell_reset(m, f);
        return 0;
    }
}

static int on_frame(struct mux *m, const struct frame *f)
{
    switch (f->type) {
    case FRAME_BYE:
        snprintf(m->problem, sizeof(m->problem), "the peer ended the connection: %.*s", (int)f->len,
                 f->len ? (const char *)f->payload : "");
        return -EPROTO;
    case FRAME_MSG:
        if (m->events.msg && m->events.msg(m->data, f->payload, f->len) < 0)
            return mux_broken(m, "message that cannot be understood");
        return 0;
    case FRAME_OPEN:
        return on_open(m, f);
    default:
        return on_stream_frame(m, f);
    }
}

/* Whole frames from the front of p: the bytes used, or -errno. */
static ssize_t take_frames(struct mux *m, const uint8_t *p, size_t n)
{
    size_t used = 0;
    while (used < n) {
        struct frame f;
        const char *why;
        ssize_t len = frame_parse(p + used, n - used, &f, &why);
        if (len < 0)
            return mux_broken(m, why);
        if (len == 0)
            break;
        if (on_frame(m, &f) < 0 || *m->problem)
            return -EPROTO;
        used += (size_t)len;
    }
    return (ssize_t)used;
}

int mux_input(struct mux *m, const void *data, size_t n)
{
    const uint8_t *p = data;
    if (*m->problem)
        return -EPROTO;
    if (n == 0)
        return 0;
    /* Finish the frame that was cut, then go on in the caller's memory. */
    while (m->in.len && n) {
        size_t want = FRAME_HEADER_SIZE;
        if (m->in.len >= FRAME_HEADER_SIZE)
            want += (size_t)m->in.data[0] | (size_t)m->in.data[1] << 8 | (size_t)m->in.data[2] << 16;
        size_t take = MIN_OF(want > m->in.len ? want - m->in.len : 0, n);
        int r = buf_append(&m->in, p, take);
        if (r < 0)
            return r;
        p += take;
        n -= take;
        ssize_t used = take_frames(m, m->in.data, m->in.len);
        if (used < 0)
            return (int)used;
        if (used)
            buf_clear(&m->in);
    }
    ssize_t used = n ? take_frames(m, p, n) : 0;
    if (used < 0)
        return (int)used;
    return buf_append(&m->in, p + used, n - (size_t)used);
}
