#include "machine/conn.h"
#include "wire/msg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READ_CHUNK (256u * 1024)

/* One loop, one read at a time: all connections read into this. */
static uint8_t chunk[READ_CHUNK];

/* ---- Sending ---- */

struct write_request {
    uv_write_t req;
    uint8_t data[];
};

static void on_written(uv_write_t *req, int status)
{
    free(req);
}

/* Writes what the socket takes at once; the rest is copied and follows when there is room. The router's windows bound
 * it. */
void conn_send(struct conn *c, const void *p, size_t n)
{
    if (!c || c->closing)
        return;
    if (c->held) {
        (void)!buf_append(&c->kept, p, n); /* without memory: as below */
        return;
    }
    if (uv_stream_get_write_queue_size(&c->stream) == 0) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)p, (unsigned)n);
        int w = uv_try_write(&c->stream, &b, 1);
        if (w > 0) {
            p = (const uint8_t *)p + w;
            n -= (size_t)w;
        }
        if (n == 0)
            return;
    }
    struct write_request *w = malloc(sizeof(*w) + n);
    if (!w)
        return; /* the peer notices a hole in the frames and is cut off */
    memcpy(w->data, p, n);
    uv_buf_t b = uv_buf_init((char *)w->data, (unsigned)n);
    if (uv_write(&w->req, &c->stream, &b, 1, on_written) < 0)
        free(w);
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
    conn_send(c, c->kept.data, c->kept.len);
    buf_done(&c->kept);
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
    ssize_t used = c->ops->frames(c, c->in.data, c->in.len, ret_why);
    if (used < 0)
        return (int)used;
    buf_drop(&c->in, (size_t)used);
    return 0;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    *b = uv_buf_init((char *)chunk, READ_CHUNK);
}

static void on_read(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct conn *c = st->data;
    if (n == 0)
        return;
    const char *why = NULL;
    if (n > 0 && take(c, (uint8_t *)b->base, (size_t)n, &why) == 0)
        return;
    if (why && strcmp(why, "goodbye") != 0) {
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
        if (n > 0)
            on_read(&c->stream, n, &b);
    }
}

/* ---- Life ---- */

struct conn *conn_new(uv_loop_t *loop, const struct conn_ops *ops, void *owner)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->ops = ops;
    c->owner = owner;
    c->kept.max = SIZE_MAX / 2;
    c->in.max = READ_CHUNK + FRAME_MAX_SIZE;
    if (uv_pipe_init(loop, &c->pipe, 0) < 0) {
        free(c);
        return NULL;
    }
    c->pipe.data = c;
    return c;
}

int conn_start(struct conn *c)
{
    return uv_read_start(&c->stream, on_alloc, on_read);
}

static void on_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    buf_done(&c->in);
    buf_done(&c->kept);
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
