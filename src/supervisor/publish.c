#include "supervisor/publish.h"
#include "base/fd.h"
#include "supervisor/publish_datagrams.h"
#include "supervisor/publish_stream.h"
#include "vmdir/port_spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG 4096

struct port {
    struct port *next;
    struct publish *of;
    struct port_spec spec;
    const void *tie; /* the client that it goes with; NULL: none */
    bool has_handle; /* the handle below, or the datagrams' */
    bool waits;      /* a connection, for room */
    bool closing, closed;
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_handle_t handle;
        uv_stream_t listener;
    };
    struct datagrams datagrams;
    struct published *connections;
};

struct publish {
    uv_loop_t *loop;
    const struct publish_ops *ops;
    void *owner;
    struct guest_streams streams;
    struct port *first;
    uint64_t open, all; /* connections */
    bool guest_left;    /* it could be reached, and cannot any more */
};

/* ---- Connections ---- */

static void free_if_done(struct port *t)
{
    if (t->closed && !t->connections)
        free(t);
}

static void on_connection_gone(void *owner, struct published *c)
{
    struct port *t = owner;
    for (struct published **at = &t->connections; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    free(c);
    t->of->open--;
    free_if_done(t);
}

/* Takes what waits while there is room. Without a guest there will be none: the client is told by a reset. */
static void accept_all(struct port *t)
{
    struct publish *p = t->of;
    while (t->waits && !t->closing && (p->guest_left || guest_streams_room(&p->streams, MUX_LEAST_WINDOW))) {
        struct published *c = calloc(1, sizeof(*c));
        if (!c)
            return;
        t->waits = false; /* the listener says when there is another */
        c->gone = on_connection_gone;
        c->owner = t;
        c->next = t->connections;
        t->connections = c;
        p->open++;
        p->all++;
        (void)!published_accept(c, &t->listener, &p->streams, &t->spec);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct port *t = listener->data;
    t->waits = status == 0;
    accept_all(t);
}

static void on_room(void *owner)
{
    struct publish *p = owner;
    for (struct port *t = p->first; t; t = t->next)
        accept_all(t);
}

void publish_guest(struct publish *p, bool up)
{
    p->guest_left = !up;
    on_room(p);
}

/* ---- Ports ---- */

static void on_port_closed(uv_handle_t *h)
{
    struct port *t = h->data;
    t->closed = true;
    free_if_done(t);
}

static void on_datagrams_closed(void *owner)
{
    struct port *t = owner;
    t->closed = true;
    free_if_done(t);
}

/* Its connections are reset; its memory is freed when they have gone. */
static void close_port(struct port *t)
{
    for (struct port **at = &t->of->first; *at; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    t->closing = true;
    for (struct published *c = t->connections; c; c = c->next)
        published_reset(c, "the port is published no longer");
    if (!t->has_handle)
        free(t);
    else if (t->spec.protocol == IPPROTO_UDP)
        datagrams_close(&t->datagrams);
    else
        uv_close(&t->handle, on_port_closed);
}

static void unpublish(struct port *t)
{
    struct publish *p = t->of;
    const struct port_spec spec = t->spec;
    close_port(t);
    if (spec.path[0])
        p->ops->remove(p->owner, spec.path);
}

/* libuv leaves it as its sender had it, and would wait in accept(2). */
static int take_over(const uv_handle_t *h)
{
    uv_os_fd_t fd;
    int r = uv_fileno(h, &fd);
    return r < 0 ? r : fd_set_nonblock(fd, true);
}

/* The socket that has come next becomes the port's. */
static int open_port(struct port *t, uv_stream_t *from)
{
    uv_loop_t *loop = t->of->loop;
    const bool udp = t->spec.protocol == IPPROTO_UDP, path = t->spec.path[0];
    const uv_handle_type want = udp ? UV_UDP : path ? UV_NAMED_PIPE : UV_TCP;
    if (uv_pipe_pending_count((uv_pipe_t *)from) == 0 || uv_pipe_pending_type((uv_pipe_t *)from) != want)
        return -EPROTO;
    t->datagrams.streams = &t->of->streams;
    t->datagrams.spec = &t->spec;
    t->datagrams.closed = on_datagrams_closed;
    t->datagrams.owner = t;
    int r = udp    ? datagrams_init(&t->datagrams, loop)
            : path ? uv_pipe_init(loop, &t->pipe, 0)
                   : uv_tcp_init(loop, &t->tcp);
    if (r < 0)
        return r;
    t->has_handle = true;
    if (!udp)
        t->handle.data = t;
    uv_handle_t *h = udp ? (uv_handle_t *)&t->datagrams.socket : &t->handle;
    r = uv_accept(from, (uv_stream_t *)h);
    if (r == 0)
        r = take_over(h);
    if (udp)
        return r < 0 ? r : datagrams_start(&t->datagrams);
    return r < 0 ? r : uv_listen(&t->listener, BACKLOG, on_connection);
}

static struct port *find(struct publish *p, const struct port_spec *spec, bool exact)
{
    for (struct port *t = p->first; t; t = t->next)
        if (port_spec_same_host(&t->spec, spec) && (!exact || t->spec.guest == spec->guest))
            return t;
    return NULL;
}

static bool parse_one(const char *text, struct port_spec *ret)
{
    size_t n;
    return port_spec_parse(text, ret, 1, &n, NULL) == 0;
}

/* ---- Requests ---- */

static unsigned count(const struct publish *p)
{
    unsigned n = 0;
    for (const struct port *t = p->first; t; t = t->next)
        n++;
    return n;
}

/* Why it is not done. Nothing has been changed yet. */
static const char *check(struct publish *p, const struct msg_ports *m)
{
    struct port_spec spec;
    for (size_t i = 0; i < m->unpublish.n; i++)
        if (!parse_one(m->unpublish.v[i], &spec) || !find(p, &spec, true))
            return "a port to take back is not published";
    for (size_t i = 0; i < m->publish.n; i++) {
        if (!parse_one(m->publish.v[i], &spec) || (spec.host == 0 && !spec.path[0]))
            return "a port to publish cannot be understood";
        if (find(p, &spec, false))
            return "a port to publish is published already";
    }
    if (m->publish.n > PORTS_MAX || count(p) + m->publish.n > PORTS_MAX)
        return "64 ports are what a vm publishes at most";
    return NULL;
}

/* Descriptors that came along and are not wanted. */
static void drop_pending(uv_loop_t *loop, uv_stream_t *from)
{
    while (uv_pipe_pending_count((uv_pipe_t *)from)) {
        struct port *t = calloc(1, sizeof(*t));
        if (!t || uv_pipe_init(loop, &t->pipe, 0) < 0) {
            free(t);
            return;
        }
        t->handle.data = t;
        int r = uv_accept(from, &t->listener);
        uv_close(&t->handle, on_port_closed);
        if (r < 0)
            return;
    }
}

static const char *add(struct publish *p, const char *text, uv_stream_t *from, const void *tie)
{
    struct port *t = calloc(1, sizeof(*t));
    if (!t)
        return "out of memory";
    t->of = p;
    t->tie = tie;
    t->next = p->first;
    p->first = t;
    if (parse_one(text, &t->spec) && open_port(t, from) == 0)
        return NULL;
    close_port(t);
    return "a socket to publish on is not what its port says";
}

void publish_refuse(struct publish *p, uv_stream_t *from)
{
    drop_pending(p->loop, from);
}

const char *publish_serve(struct publish *p, const struct msg_ports *m, uv_stream_t *from, const void *client)
{
    struct port_spec spec;
    const char *why = check(p, m);
    for (size_t i = 0; !why && i < m->publish.n; i++) {
        why = add(p, m->publish.v[i], from, m->tied ? client : NULL);
        for (size_t done = 0; why && done < i; done++)
            close_port(p->first);
    }
    for (size_t i = 0; !why && i < m->unpublish.n; i++) {
        struct port *t = parse_one(m->unpublish.v[i], &spec) ? find(p, &spec, true) : NULL;
        if (t)
            unpublish(t);
    }
    drop_pending(p->loop, from);
    p->ops->changed(p->owner);
    return why;
}

void publish_untie(struct publish *p, const void *client)
{
    bool any = false;
    for (struct port *t = p->first, *next; t; t = next) {
        next = t->next;
        if (t->tie != client)
            continue;
        unpublish(t);
        any = true;
    }
    if (any)
        p->ops->changed(p->owner);
}

/* ---- All of it ---- */

struct publish *publish_new(uv_loop_t *loop, struct router *r, const struct publish_ops *ops, void *owner)
{
    struct publish *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->loop = loop;
    p->ops = ops;
    p->owner = owner;
    p->streams.room = on_room;
    p->streams.owner = p;
    if (guest_streams_init(&p->streams, loop, r) == 0)
        return p;
    guest_streams_done(&p->streams);
    free(p);
    return NULL;
}

bool publish_is(const struct publish *p, const void *client)
{
    return client == &p->streams;
}

void publish_input(struct publish *p, const void *bytes, size_t n)
{
    guest_streams_input(&p->streams, bytes, n);
}

static void format_from(const struct port *t, struct buf *b)
{
    char line[PORT_SPEC_MAX_TEXT];
    if (!t)
        return;
    format_from(t->next, b); /* the newest is first in the list */
    port_spec_format(&t->spec, line);
    (void)!buf_printf(b, "%s\n", line);
}

void publish_format(const struct publish *p, char *out, size_t size)
{
    CLEAN_BUF struct buf b = BUF_INIT(size);
    format_from(p->first, &b);
    snprintf(out, size, "%s", buf_cstr(&b));
}

void publish_count(const struct publish *p, uint64_t *ret_open, uint64_t *ret_all)
{
    *ret_open = p->open;
    *ret_all = p->all;
}

void publish_end(struct publish *p)
{
    while (p->first)
        unpublish(p->first);
    guest_streams_done(&p->streams);
}
