/*
 * Flow control: bytes from the host go to the socket; where that is full they wait here, not consumed, and the stream's
 * window closes. The socket is read only while the multiplexer takes records for its stream. Datagrams never wait: one
 * that finds no room is lost, as anywhere on its way.
 *
 * The places where a service may listen (service_address.h) are tried in turn. Where its accept queue is full, a
 * connection has no socket yet and waits, behind those to the same port that came before it. Whether anything takes a
 * datagram is known only when the kernel reports that nothing did: the datagram is sent again then, to the next one.
 */
#include "guest/connect.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/accept_queue.h"
#include "guest/service_address.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A service that accepts nothing for so long gets the connection anyway, for the kernel to end. */
#define PATIENCE_MS 30000

struct connection {
    struct connection *next; /* the next that came */
    uint32_t stream;         /* 0 once that is gone */
    int fd;
    bool udp, connecting;
    bool waits; /* for room in the accept queue */
    uint64_t waits_until;
    bool host_closed;  /* the host sends no more ... */
    bool said_closed;  /* ... and the socket was told */
    bool guest_closed; /* the socket has no more */
    uint16_t port;
    enum place place;
    int refused;     /* by the first place */
    uint32_t events; /* epoll events asked for; 0: it is not in the set */
    size_t record_max;
    struct buf out; /* what waits for the socket; of a flow: the last datagram, until one has come back */
    size_t out_head;
};

static struct {
    struct mux *mux;
    int epoll;
    int timer;  /* while connections wait; else -1 */
    bool ended; /* one has, so that the service may accept another */
    struct connection *first;
} serving = {.timer = -1};

/* What has been read of a socket. Apart, so that it takes no room in the program. */
static uint8_t chunk[FRAME_MAX_PAYLOAD];

static struct connection *find(uint32_t stream)
{
    struct connection *c = serving.first;
    while (c && c->stream != stream)
        c = c->next;
    return c;
}

/* ---- Ends ---- */

static void forget(struct connection *c)
{
    for (struct connection **p = &serving.first; *p; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            break;
        }
    }
    serving.ended = true;
    fd_closep(&c->fd); /* which takes it out of the epoll set */
    buf_done(&c->out);
    free(c);
}

/* The service sees a reset, too, unless all was said. */
static void abort_connection(struct connection *c)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    forget(c);
}

static void fail(struct connection *c, int error)
{
    mux_reset(serving.mux, c->stream, strerror(error));
    abort_connection(c);
}

/* ---- Sockets ---- */

static bool must_wait(struct connection *c, const struct sockaddr *to)
{
    unsigned under_way = 0;
    bool behind = false; /* another, which came before */
    for (const struct connection *o = serving.first; o && o != c; o = o->next) {
        bool same = o->connecting && o->port == c->port;
        behind |= same && o->waits;
        under_way += same && !o->waits;
    }
    if (c->udp || clock_left_ms(c->waits_until) == 0 || (!behind && accept_queue_room(to, under_way)))
        return false;
    if (serving.timer < 0)
        serving.timer = accept_queue_timer(serving.epoll, &serving);
    if (!c->waits_until)
        c->waits_until = clock_deadline(PATIENCE_MS);
    return serving.timer >= 0;
}

/* Begins to connect to c->place: 0, -EINPROGRESS, or why not. */
static int begin_at(struct connection *c)
{
    union address a;
    socklen_t n = service_address(c->place, c->port, &a);
    fd_closep(&c->fd);
    c->events = 0;
    if (n == 0)
        return -EADDRNOTAVAIL;
    c->connecting = c->waits = must_wait(c, &a.any);
    if (c->waits)
        return -EINPROGRESS;
    CLEAN_FD int fd = socket(a.any.sa_family, (c->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    const int on = 1;
    if (!c->udp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    int r = connect(fd, &a.any, n) < 0 ? -errno : 0;
    c->connecting = r == -EINPROGRESS;
    if (r == 0 || c->connecting)
        c->fd = TAKE_FD(fd);
    return r;
}

static bool begin_here(struct connection *c)
{
    int r = begin_at(c);
    if (r == 0 || r == -EINPROGRESS)
        return true;
    if (!c->refused)
        c->refused = -r;
    return false;
}

/* Where nothing takes it here, the next place is tried; false at the end. */
static bool begin_next(struct connection *c)
{
    while (++c->place < PLACES)
        if (begin_here(c))
            return true;
    return false;
}

/* ---- To the guest ---- */

static void watch(struct connection *c)
{
    if (c->waits)
        return;
    uint32_t events = c->connecting || (!c->udp && c->out.len > c->out_head) ? EPOLLOUT : 0;
    if (!c->connecting && !c->guest_closed && mux_can_send(serving.mux, c->stream))
        events |= EPOLLIN;
    if (events == c->events)
        return;
    /* Out of the set where nothing is wanted: an end would be reported without end. */
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(serving.epoll, !c->events ? EPOLL_CTL_ADD : !events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, c->fd, &e);
    c->events = events;
}

/* Both directions have ended: true, and it is forgotten. */
static bool finished(struct connection *c)
{
    if (c->host_closed && !c->connecting && c->out.len == c->out_head && !c->said_closed) {
        c->said_closed = true;
        shutdown(c->fd, SHUT_WR);
    }
    if (!c->said_closed || !c->guest_closed)
        return false;
    forget(c);
    return true;
}

/* Sends what waits; false where the connection is gone. */
static bool push(struct connection *c)
{
    while (c->out_head < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->out_head, c->out.len - c->out_head, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0) {
            fail(c, errno);
            return false;
        }
        c->out_head += (size_t)n;
        mux_consumed(serving.mux, c->stream, (size_t)n);
    }
    buf_clear(&c->out);
    c->out_head = 0;
    return true;
}

static int take_datagram(struct connection *c, const void *p, size_t n)
{
    mux_consumed(serving.mux, c->stream, n);
    buf_clear(&c->out);
    (void)!buf_append(&c->out, p, n); /* without memory it is not sent again */
    if (send(c->fd, p, n, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED)
        (void)!send(c->fd, p, n, MSG_NOSIGNAL); /* that was said of one before it */
    return 0;
}

int connect_record(uint32_t stream, const void *p, size_t n)
{
    struct connection *c = find(stream);
    if (!c)
        return -ENOENT;
    if (c->udp)
        return take_datagram(c, p, n);
    if (c->out_head) {
        buf_drop(&c->out, c->out_head);
        c->out_head = 0;
    }
    int r = buf_append(&c->out, p, n);
    if (r < 0) {
        abort_connection(c); /* the stream is reset by the caller */
        return -ENOMEM;
    }
    if (c->connecting || push(c))
        watch(c);
    return 0;
}

bool connect_closed(uint32_t stream)
{
    struct connection *c = find(stream);
    if (!c)
        return false;
    c->host_closed = true;
    if (!finished(c))
        watch(c);
    return true;
}

bool connect_reset(uint32_t stream)
{
    struct connection *c = find(stream);
    if (c)
        abort_connection(c);
    return c != NULL;
}

bool connect_writable(uint32_t stream)
{
    struct connection *c = find(stream);
    if (c)
        watch(c);
    return c != NULL;
}

/* ---- To the host ---- */

/* Nothing takes datagrams here. */
static void refused_datagram(struct connection *c)
{
    if (!begin_next(c)) {
        fail(c, c->refused ? c->refused : ECONNREFUSED);
        return;
    }
    if (c->out.len)
        (void)!send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
    watch(c);
}

static void read_failed(struct connection *c, int error)
{
    if (c->udp && error == ECONNREFUSED)
        refused_datagram(c);
    else
        fail(c, error);
}

/* A few reads: the others have their turn then. */
static void pull(struct connection *c)
{
    for (int i = 0; i < 4 && mux_can_send(serving.mux, c->stream); i++) {
        ssize_t n = recv(c->fd, chunk, c->record_max, 0);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            read_failed(c, errno);
            return;
        }
        if (n == 0 && !c->udp) {
            c->guest_closed = true;
            mux_close(serving.mux, c->stream);
            break;
        }
        if (c->udp)
            c->out.len = 0; /* somebody is there */
        if (mux_send(serving.mux, c->stream, CHAN_OUT, chunk, (size_t)n) < 0) {
            fail(c, ENOMEM);
            return;
        }
    }
    if (!finished(c))
        watch(c);
}

static void go_on(struct connection *c)
{
    if (c->connecting || (push(c) && !finished(c)))
        watch(c);
}

/* The connection is there, or was refused. */
static void connected(struct connection *c)
{
    int error = 0;
    socklen_t n = sizeof(error);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        error = errno;
    c->connecting = false;
    if (error) {
        if (!c->refused)
            c->refused = error;
        if (!begin_next(c)) {
            fail(c, c->refused);
            return;
        }
    }
    go_on(c);
}

/* In the order in which they came. */
static void try_waiting(void)
{
    bool any = false;
    serving.ended = false;
    accept_queue_changed();
    for (struct connection *c = serving.first, *next; c; c = next) {
        next = c->next;
        if (!c->waits)
            continue;
        if (!begin_here(c) && !begin_next(c)) {
            fail(c, c->refused);
            continue;
        }
        any |= c->waits;
        go_on(c);
    }
    if (!any)
        fd_closep(&serving.timer);
}

bool connect_event(void *ptr, uint32_t events)
{
    struct connection *c = serving.first;
    uint64_t expired;
    if (ptr == &serving && read(serving.timer, &expired, sizeof(expired)) > 0)
        try_waiting();
    if (ptr == &serving)
        return true;
    while (c && c != ptr)
        c = c->next;
    if (!c)
        return false;
    if (c->connecting) {
        connected(c);
        return true;
    }
    if ((events & EPOLLOUT) && !push(c))
        return true;
    if (finished(c))
        return true;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        pull(c);
    else
        watch(c);
    return true;
}

/* ---- All of them ---- */

void connect_init(struct mux *mux, int epoll)
{
    serving.mux = mux;
    serving.epoll = epoll;
}

int connect_open(uint32_t stream, const void *p, size_t n)
{
    struct msg_connect m = {0};
    if (msg_connect_decode(&m, p, n) < 0 || m.port == 0 || m.port > UINT16_MAX ||
        (m.protocol != IPPROTO_TCP && m.protocol != IPPROTO_UDP))
        return -EPROTO;
    struct connection *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->stream = stream;
    c->fd = -1;
    c->udp = m.protocol == IPPROTO_UDP;
    c->port = (uint16_t)m.port;
    c->record_max = mux_record_max(m.window ? m.window : MUX_WINDOW);
    c->out.max = MUX_WINDOW + FRAME_MAX_PAYLOAD;
    mux_set_window(serving.mux, stream, m.window);
    if (!begin_here(c) && !begin_next(c)) {
        int r = -c->refused;
        free(c);
        return r;
    }
    struct connection **last = &serving.first;
    while (*last)
        last = &(*last)->next;
    *last = c;
    watch(c);
    return 0;
}

void connect_watch(void)
{
    accept_queue_changed();
    if (serving.timer >= 0 && serving.ended)
        try_waiting();
    for (struct connection *c = serving.first; c; c = c->next)
        watch(c);
}

void connect_end_all(void)
{
    while (serving.first)
        abort_connection(serving.first);
    fd_closep(&serving.timer);
}

bool connect_busy(void)
{
    return serving.first;
}
