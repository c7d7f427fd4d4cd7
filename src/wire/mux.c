#include "wire/mux.h"
#include "wire/mux_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

_Static_assert(MUX_MAX_STREAMS == 384, "the refusal names it");

#define OUT_BATCH   (4 * FRAME_MAX_SIZE)
#define CONTROL_MAX (4u << 20)
/* Given back in pieces of this size, so that windows cost few frames; where the peer has the smallest window (router.h)
 * it can still send a record of the largest size when all but this has come back. */
#define WINDOW_RETURN (48u * 1024)

static size_t queue_len(const struct mux_queue *q)
{
    return q->buf.len - q->head;
}

static void queue_take(struct mux_queue *q, size_t n)
{
    q->head += n;
    if (q->head == q->buf.len) {
        buf_clear(&q->buf);
        q->head = 0;
    } else if (q->head > q->buf.len / 2) {
        buf_drop(&q->buf, q->head);
        q->head = 0;
    }
}

/* One frame at the end; what was taken from the front makes room where there is none else. */
static int queue_frame(struct mux_queue *q, uint8_t type, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    if (n > FRAME_MAX_PAYLOAD)
        return -EMSGSIZE;
    if (q->head && q->buf.len + FRAME_HEADER_SIZE + n > q->buf.max) {
        buf_drop(&q->buf, q->head);
        q->head = 0;
    }
    return frame_append(&q->buf, type, stream, channel, p, (uint32_t)n);
}

struct mux *mux_new(bool opener, const struct mux_events *events, void *data)
{
    struct mux *m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    m->opener = opener;
    m->events = *events;
    m->data = data;
    m->next_number = opener ? 1 : 2;
    m->first_window = MUX_WINDOW;
    m->control.buf.max = CONTROL_MAX;
    m->out.max = OUT_BATCH + FRAME_MAX_SIZE;
    m->in.max = FRAME_MAX_SIZE;
    if (buf_reserve(&m->in, m->in.max) < 0 || buf_reserve(&m->out, m->out.max) < 0) {
        mux_free(m);
        return NULL;
    }
    return m;
}

static void stream_free(struct mux_stream *s)
{
    buf_done(&s->records.buf);
    free(s);
}

void mux_free(struct mux *m)
{
    if (!m)
        return;
    while (m->streams) {
        struct mux_stream *s = m->streams;
        m->streams = s->next;
        stream_free(s);
    }
    buf_done(&m->control.buf);
    buf_done(&m->out);
    buf_done(&m->in);
    free(m);
}

const char *mux_problem(const struct mux *m)
{
    return m->problem;
}

struct mux_stream *mux_find(const struct mux *m, uint32_t number)
{
    for (struct mux_stream *s = m->streams; s; s = s->next)
        if (s->number == number)
            return s;
    return NULL;
}

bool mux_has(const struct mux *m, uint32_t stream)
{
    return mux_find(m, stream) != NULL;
}

void mux_drop(struct mux *m, struct mux_stream *gone)
{
    for (struct mux_stream **p = &m->streams; *p; p = &(*p)->next) {
        if (*p == gone) {
            *p = gone->next;
            m->n_streams--;
            stream_free(gone);
            return;
        }
    }
}

bool mux_drop_if_finished(struct mux *m, struct mux_stream *s)
{
    if (!s->remote_closed || !s->close_sent)
        return false;
    mux_drop(m, s);
    return true;
}

int mux_broken(struct mux *m, const char *why)
{
    if (!*m->problem) {
        snprintf(m->problem, sizeof(m->problem), "%s", why);
        m->owes_bye = true;
    }
    return -EPROTO;
}

void mux_set_send_window(struct mux *m, uint64_t window)
{
    m->first_window = window >= FRAME_MAX_PAYLOAD && window <= MUX_WINDOW ? (int64_t)window : MUX_WINDOW;
}

static uint32_t give_back_of(uint64_t window)
{
    return (uint32_t)MIN_OF(window / 2, (uint64_t)WINDOW_RETURN);
}

size_t mux_record_max(uint64_t window)
{
    return (size_t)MIN_OF(window - give_back_of(window), (uint64_t)FRAME_MAX_PAYLOAD);
}

void mux_set_window(struct mux *m, uint32_t stream, uint64_t window)
{
    struct mux_stream *s = mux_find(m, stream);
    if (!s || window < MUX_LEAST_WINDOW || window > MUX_WINDOW)
        return;
    s->send_window = s->recv_window = (int64_t)window;
    s->give_back = give_back_of(window);
    s->queue_max = MIN_OF((size_t)window, (size_t)MUX_QUEUE);
}

struct mux_stream *mux_add_stream(struct mux *m, uint32_t number)
{
    struct mux_stream *s = m->n_streams < MUX_MAX_STREAMS ? calloc(1, sizeof(*s)) : NULL;
    if (!s)
        return NULL;
    s->number = number;
    s->send_window = m->first_window;
    s->recv_window = MUX_WINDOW;
    s->give_back = WINDOW_RETURN;
    s->queue_max = MUX_QUEUE;
    s->records.buf.max = MUX_QUEUE + FRAME_MAX_SIZE;
    s->next = m->streams;
    m->streams = s;
    m->n_streams++;
    return s;
}

static int control(struct mux *m, uint8_t type, uint32_t stream, const void *p, size_t n)
{
    return queue_frame(&m->control, type, stream, 0, p, n);
}

void mux_send_reset(struct mux *m, uint32_t stream, const char *reason)
{
    if (*m->problem) /* the BYE, said or about to be, covers every stream */
        return;
    int r = control(m, FRAME_RESET, stream, reason, strnlen(reason, 1024));
    if (r < 0)
        mux_broken(m, r == -EMSGSIZE ? "the peer does not read" : "out of memory");
}

/* ---- Sending ---- */

int mux_send_msg(struct mux *m, const struct buf *msg)
{
    if (*m->problem)
        return -EPIPE;
    return control(m, FRAME_MSG, 0, msg->data, msg->len);
}

void mux_drain(struct mux *m)
{
    m->held = true;
    m->held_left = queue_len(&m->control);
}

void mux_undrain(struct mux *m)
{
    m->held = false;
}

int64_t mux_open(struct mux *m, const struct buf *request)
{
    if (*m->problem)
        return -EPIPE;
    if (m->next_number > UINT32_MAX - 2)
        return -EMFILE;
    struct mux_stream *s = mux_add_stream(m, m->next_number);
    if (!s)
        return m->n_streams < MUX_MAX_STREAMS ? -ENOMEM : -EMFILE;
    int r = control(m, FRAME_OPEN, s->number, request->data, request->len);
    if (r < 0) {
        mux_drop(m, s);
        return r;
    }
    m->next_number += 2;
    return s->number;
}

static bool has_room(const struct mux_stream *s)
{
    return queue_len(&s->records) < s->queue_max;
}

bool mux_can_send(const struct mux *m, uint32_t stream)
{
    const struct mux_stream *s = mux_find(m, stream);
    return s && !*m->problem && !s->local_closed && has_room(s);
}

int mux_send(struct mux *m, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    struct mux_stream *s = mux_find(m, stream);
    if (!s || *m->problem || s->local_closed)
        return -EPIPE;
    if (channel >= CHAN_COUNT)
        return -EINVAL;
    if (n == 0)
        return 0;
    if (!has_room(s)) {
        s->refused = true;
        return -EAGAIN;
    }
    return queue_frame(&s->records, FRAME_DATA, stream, channel, p, n);
}

void mux_close(struct mux *m, uint32_t stream)
{
    struct mux_stream *s = mux_find(m, stream);
    if (s)
        s->local_closed = true; /* the CLOSE frame follows the queued records */
}

void mux_reset(struct mux *m, uint32_t stream, const char *reason)
{
    struct mux_stream *s = mux_find(m, stream);
    if (!s)
        return;
    mux_send_reset(m, stream, reason);
    mux_drop(m, s);
}

void mux_consumed(struct mux *m, uint32_t stream, size_t n)
{
    struct mux_stream *s = mux_find(m, stream);
    if (s)
        s->unacked += (uint32_t)n; /* mux_output gives it back */
}

/* Window frames are made when they are sent: they need no memory and one stands for all that was
 * consumed meanwhile. */
static void give_windows_back(struct mux *m)
{
    for (struct mux_stream *s = m->streams; s && m->out.len < OUT_BATCH; s = s->next) {
        if (s->unacked < s->give_back || s->remote_closed)
            continue;
        const uint8_t bytes[4] = {(uint8_t)s->unacked, (uint8_t)(s->unacked >> 8), (uint8_t)(s->unacked >> 16),
                                  (uint8_t)(s->unacked >> 24)};
        if (frame_append(&m->out, FRAME_WINDOW, s->number, 0, bytes, sizeof(bytes)) < 0)
            return;
        s->recv_window += s->unacked;
        s->unacked = 0;
    }
}

/* Moves one record, or the CLOSE, of a stream to the output. True if something moved. */
static bool serve(struct mux *m, struct mux_stream *s)
{
    struct frame f;
    const char *why;
    if (queue_len(&s->records) == 0) {
        if (!s->local_closed || s->close_sent || frame_append(&m->out, FRAME_CLOSE, s->number, 0, NULL, 0) < 0)
            return false;
        s->close_sent = true;
        return true;
    }
    const uint8_t *front = s->records.buf.data + s->records.head;
    ssize_t n = frame_parse(front, queue_len(&s->records), &f, &why);
    if (n <= 0 || (int64_t)f.len > s->send_window || buf_append(&m->out, front, (size_t)n) < 0)
        return false;
    s->send_window -= f.len;
    queue_take(&s->records, (size_t)n);
    return true;
}

/* The streams up to the one served last go to the end: the next batch begins behind it. */
static void rotate(struct mux *m, uint32_t last_served)
{
    struct mux_stream *last = mux_find(m, last_served);
    if (!last || !last->next)
        return;
    struct mux_stream *first = m->streams, *end = last;
    while (end->next)
        end = end->next;
    m->streams = last->next;
    last->next = NULL;
    end->next = first;
}

/* Every stream in turn, one frame each, until the batch is full or nobody has anything that may go.
 */
static void serve_all(struct mux *m)
{
    bool moved = true;
    uint32_t last_served = 0;
    while (moved && m->out.len < OUT_BATCH) {
        moved = false;
        for (struct mux_stream *s = m->streams, *next; s && m->out.len < OUT_BATCH; s = next) {
            next = s->next;
            if (!serve(m, s))
                continue;
            moved = true;
            uint32_t number = s->number;
            if (s->refused && has_room(s)) {
                uint32_t next_number = next ? next->number : 0;
                s->refused = false;
                if (m->events.writable && !s->local_closed)
                    m->events.writable(m->data, number);
                /* The callback may have ended any stream. */
                next = next_number ? mux_find(m, next_number) : NULL;
                s = mux_find(m, number);
            }
            if (s && !mux_drop_if_finished(m, s))
                last_served = number;
        }
    }
    rotate(m, last_served);
}

size_t mux_output(struct mux *m, const uint8_t **ret)
{
    if (m->out_head == m->out.len) {
        buf_clear(&m->out);
        m->out_head = 0;
        size_t n = MIN_OF(m->held ? m->held_left : queue_len(&m->control), (size_t)OUT_BATCH);
        if (n && buf_append(&m->out, m->control.buf.data + m->control.head, n) == 0) {
            queue_take(&m->control, n);
            m->held_left -= m->held ? n : 0;
        }
        /* A control frame that the batch has cut is finished by the next one. */
        if (!*m->problem && !m->held && m->out.len < OUT_BATCH) {
            give_windows_back(m);
            serve_all(m);
        }
        if (m->owes_bye && !m->held && !queue_len(&m->control) && m->out.len < OUT_BATCH) {
            m->owes_bye = false;
            (void)!frame_append(&m->out, FRAME_BYE, 0, 0, m->problem, (uint32_t)strnlen(m->problem, 1024));
        }
    }
    *ret = m->out.data ? m->out.data + m->out_head : NULL;
    return m->out.len - m->out_head;
}

void mux_sent(struct mux *m, size_t n)
{
    m->out_head += n;
}
