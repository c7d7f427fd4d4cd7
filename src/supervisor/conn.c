#include "supervisor/conn.h"
#include "wire/msg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READ_CHUNK        (256u * 1024)
#define CLIENT_READ_CHUNK (2 * FRAME_MAX_SIZE)

/* One loop, one read at a time: all connections read into this. */
static uint8_t chunk[READ_CHUNK];

/* ---- Sending ---- */

static void on_written(uv_write_t *req, int status);

static void write_next(struct conn *c)
{
    struct block *b = c->out.first_is_taken || c->closing ? NULL : outqueue_take(&c->out);
    if (!b)
        return;
    uv_buf_t buf = uv_buf_init((char *)b->data, (unsigned)b->len);
    if (uv_write(&c->writing, &c->stream, &buf, 1, on_written) < 0)
        outqueue_done(&c->out); /* the connection is broken, which reading tells */
}

static void on_written(uv_write_t *req, int status)
{
    struct conn *c = req->data;
    outqueue_drop(&c->out);
    if (c->closing)
        return;
    write_next(c);
    if (c->ops->drained)
        c->ops->drained(c);
}

/* Writes what the socket takes at once; the rest is copied and follows when there is room. The owner bounds it
 * (conn_queued). */
void conn_send(struct conn *c, const void *p, size_t n)
{
    if (!c || c->closing)
        return;
    if (c->held) {
        (void)!outqueue_add(&c->kept, p, n); /* without memory: as below */
        return;
    }
    if (!c->out.first) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)p, (unsigned)n);
        int w = uv_try_write(&c->stream, &b, 1);
        if (w > 0) {
            p = (const uint8_t *)p + w;
            n -= (size_t)w;
        }
        if (n == 0)
            return;
    }
    (void)!outqueue_add(&c->out, p, n); /* the peer notices a hole in the frames and is cut off */
    write_next(c);
}

size_t conn_queued(const struct conn *c)
{
    return c ? c->out.bytes + c->kept.bytes : 0;
}

void conn_send_frame(struct conn *c, uint8_t type, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    CLEAN_BUF struct buf f = BUF_INIT(FRAME_MAX_SIZE);
    if (n <= FRAME_MAX_PAYLOAD && frame_append(&f, type, stream, channel, p, (uint32_t)n) == 0)
        conn_send(c, f.data, f.len);
}

void conn_send_bare(struct conn *c, uint8_t msg)
{
    CLEAN_BUF struct buf m = BUF_INIT(64);
    if (msg_begin(&m, msg) == 0)
        conn_send_frame(c, FRAME_MSG, 0, 0, m.data, m.len);
}

void conn_hold(struct conn *c)
{
    if (c)
        c->held = true;
}

void conn_release(struct conn *c)
{
    if (!c || !c->held)
        return;
    c->held = false;
    outqueue_append(&c->out, &c->kept);
    write_next(c);
}

/* ---- Receiving ---- */

/* The bytes of one read: whole frames are passed on where they lie, what remains waits in c->in. */
static int take(struct conn *c, uint8_t *p, size_t n, const char **ret_why)
{
    if (c->in.len == 0) {
        ssize_t used = c->ops->frames(c, p, n, ret_why);
        if (used < 0)
            return (int)used;
        p += used;
        n -= (size_t)used;
    }
    if (n == 0)
        return 0;
    int r = buf_append(&c->in, p, n);
    if (r < 0) {
        *ret_why = "out of memory";
        return r;
    }
    if (c->paused)
        return 0;
    ssize_t used = c->ops->frames(c, c->in.data, c->in.len, ret_why);
    if (used < 0)
        return (int)used;
    buf_drop(&c->in, (size_t)used);
    return 0;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    const struct conn *c = h->data;
    *b = uv_buf_init((char *)chunk, c->client ? CLIENT_READ_CHUNK : READ_CHUNK);
}

static void on_read(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct conn *c = st->data;
    if (n == 0)
        return;
    const char *why = NULL;
    if (n < 0)
        conn_close(c);
    else if (take(c, (uint8_t *)b->base, (size_t)n, &why) < 0)
        conn_cut_off(c, why);
}

const char conn_goodbye[] = "goodbye";

void conn_cut_off(struct conn *c, const char *why)
{
    if (c->closing)
        return;
    if (why != conn_goodbye) {
        conn_send_frame(c, FRAME_BYE, 0, 0, why, strlen(why));
        c->ops->cut_off(c, why);
    }
    conn_close(c);
}

void conn_drain(struct conn *c)
{
    uv_os_fd_t fd;
    for (ssize_t n = 1; n > 0 && c && !c->closing && uv_fileno(&c->handle, &fd) == 0;) {
        n = recv(fd, chunk, READ_CHUNK, MSG_DONTWAIT);
        const uv_buf_t b = uv_buf_init((char *)chunk, READ_CHUNK);
        c->paused = false;
        if (n > 0)
            on_read(&c->stream, n, &b);
    }
}

void conn_pause(struct conn *c)
{
    c->paused = true;
    uv_read_stop(&c->stream);
}

void conn_resume(struct conn *c)
{
    if (c->closing || !c->paused)
        return;
    const char *why = NULL;
    c->paused = false;
    if (c->in.len) {
        ssize_t used = c->ops->frames(c, c->in.data, c->in.len, &why);
        if (used < 0) {
            conn_cut_off(c, why);
            return;
        }
        buf_drop(&c->in, (size_t)used);
    }
    if (!c->paused && !c->closing)
        (void)!conn_start(c);
}

/* ---- Life ---- */

static struct conn *make(uv_loop_t *loop, const struct conn_ops *ops, void *owner, bool sockets)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->ops = ops;
    c->owner = owner;
    c->writing.data = c;
    c->in.max = READ_CHUNK + FRAME_MAX_SIZE;
    if (uv_pipe_init(loop, &c->pipe, sockets) < 0) {
        free(c);
        return NULL;
    }
    c->pipe.data = c;
    return c;
}

struct conn *conn_new(uv_loop_t *loop, const struct conn_ops *ops, void *owner)
{
    return make(loop, ops, owner, false);
}

struct conn *conn_new_client(uv_loop_t *loop, const struct conn_ops *ops, void *owner)
{
    return make(loop, ops, owner, true);
}

int conn_start(struct conn *c)
{
    return uv_read_start(&c->stream, on_alloc, on_read);
}

static void on_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    buf_done(&c->in);
    outqueue_done(&c->out);
    outqueue_done(&c->kept);
    free(c);
}

void conn_discard(struct conn *c)
{
    c->closing = true;
    uv_close(&c->handle, on_closed);
}

void conn_close(struct conn *c)
{
    if (c->closing)
        return;
    c->ops->gone(c);
    conn_discard(c);
}
