#include "machine/client.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/interrupt.h"
#include "host/os.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define READ_CHUNK (256u * 1024)
#define MAX_EXTRA  8
#define CONNECT_MS 30000 /* a supervisor with many commands at once takes its time */

/* An event waiting to be taken; its data follow the struct. Bounded by the streams' windows. */
struct queued {
    struct queued *next;
    struct client_event event;
    uint8_t data[];
};

struct client {
    int fd;
    struct mux *mux;
    bool broken;
    struct queued *first, **last;
    struct queued *taken;
    uint8_t *chunk;
};

static int queue_event(struct client *c, enum client_event_kind kind, uint32_t stream, uint8_t channel, const void *p,
                       size_t n)
{
    struct queued *q = malloc(sizeof(*q) + n + 1);
    if (!q)
        return -ENOMEM;
    q->next = NULL;
    q->event = (struct client_event){.kind = kind, .stream = stream, .channel = channel, .data = q->data, .len = n};
    if (n)
        memcpy(q->data, p, n);
    q->data[n] = '\0';
    *c->last = q;
    c->last = &q->next;
    return 0;
}

static int on_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    return queue_event(data, CLIENT_RECORD, stream, channel, p, n);
}

static void on_closed(void *data, uint32_t stream)
{
    struct client *c = data;
    if (queue_event(c, CLIENT_CLOSED, stream, 0, NULL, 0) < 0)
        c->broken = true;
}

static void on_reset(void *data, uint32_t stream, const char *reason)
{
    struct client *c = data;
    if (queue_event(c, CLIENT_RESET, stream, 0, reason, strlen(reason)) < 0)
        c->broken = true;
}

static int on_msg(void *data, const void *p, size_t n)
{
    return 0; /* nothing on stream 0 is meant for clients */
}

static const struct mux_events events = {
    .msg = on_msg,
    .record = on_record,
    .closed = on_closed,
    .reset = on_reset,
};

/* A listener whose queue is full answers nothing: the send timeout bounds the wait for room (unix(7), socket(7)). */
static int connect_within(int fd, const struct sockaddr_un *a, uint64_t deadline)
{
    for (;;) {
        int ms = MAX_OF(clock_left_ms(deadline), 1); /* 0 would be for ever */
        const struct timeval left = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof(left)) < 0)
            return -errno;
        if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0)
            return 0;
        if (errno == EAGAIN)
            return -ETIMEDOUT;
        if (errno != EINTR || interrupt_pending())
            return -errno;
    }
}

static int connect_socket(struct home *h, const char *name, uint64_t deadline, struct mvm_error *err)
{
    CLEAN_FD int dir = vmdir_open(h, name, err);
    if (dir < 0)
        return dir;
    CLEAN_FD int fd = os_socket(AF_UNIX, SOCK_STREAM);
    struct sockaddr_un a = vmdir_socket_address(dir);
    int r = fd < 0 ? fd : connect_within(fd, &a, deadline);
    if (r == 0)
        r = fd_set_nonblock(fd, true);
    if (r == -ENOENT || r == -ECONNREFUSED)
        return mvm_error_set(err, -ENOENT, "vm '%s' is not running", name);
    if (r == -ETIMEDOUT)
        return mvm_error_set(err, r, "the supervisor of vm '%s' is not responding", name);
    return r < 0 ? mvm_error_errno(err, r, "cannot reach vm '%s'", name) : TAKE_FD(fd);
}

int client_connect_by(struct home *h, const char *name, uint64_t deadline, struct client **ret, struct mvm_error *err)
{
    CLEAN_FD int fd = connect_socket(h, name, deadline, err);
    if (fd < 0)
        return fd;
    CLEAN_CLIENT struct client *c = calloc(1, sizeof(*c));
    if (!c)
        return mvm_error_errno(err, -ENOMEM, "client");
    c->fd = TAKE_FD(fd);
    c->last = &c->first;
    c->chunk = malloc(READ_CHUNK);
    c->mux = mux_new(true, &events, c);
    if (!c->chunk || !c->mux)
        return mvm_error_errno(err, -ENOMEM, "client");
    *ret = TAKE_PTR(c);
    return 0;
}

int client_connect(struct home *h, const char *name, struct client **ret, struct mvm_error *err)
{
    return client_connect_by(h, name, clock_deadline(CONNECT_MS), ret, err);
}

pid_t client_peer(const struct client *c)
{
    return os_peer(c->fd);
}

void client_free(struct client *c)
{
    if (!c)
        return;
    client_event_done(c);
    while (c->first) {
        struct queued *q = c->first;
        c->first = q->next;
        free(q);
    }
    mux_free(c->mux);
    fd_closep(&c->fd);
    free(c->chunk);
    free(c);
}

/* Writes what the socket takes now. 0, or -EPIPE where the connection is gone. */
static int flush(struct client *c)
{
    const uint8_t *p;
    size_t n;
    while ((n = mux_output(c->mux, &p)) > 0) {
        ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0 && errno == EAGAIN)
            return 0;
        if (w < 0)
            return -EPIPE;
        mux_sent(c->mux, (size_t)w);
    }
    return 0;
}

/* Reads what is there. 0, or -EPIPE at the end of the connection, or mux_input's error. */
static int fill(struct client *c)
{
    for (;;) {
        ssize_t n = read(c->fd, c->chunk, READ_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return -EPIPE;
        int r = mux_input(c->mux, c->chunk, (size_t)n);
        if (r < 0)
            return r;
        if ((size_t)n < READ_CHUNK)
            return 0;
    }
}

/* One round of I/O, waiting at most until the deadline. 1 when something moved, 0 when an extra descriptor is ready. */
static int step(struct client *c, struct pollfd *extra, size_t n_extra, uint64_t deadline)
{
    if (flush(c) < 0)
        c->broken = true;
    if (c->broken)
        return -EPIPE;
    const uint8_t *p;
    struct pollfd fds[2 + MAX_EXTRA];
    fds[0] = (struct pollfd){.fd = c->fd, .events = POLLIN};
    if (mux_output(c->mux, &p) > 0)
        fds[0].events |= POLLOUT;
    fds[1] = (struct pollfd){.fd = interrupt_fd(), .events = POLLIN};
    for (size_t i = 0; i < n_extra; i++) {
        fds[2 + i] = extra[i];
        extra[i].revents = 0;
    }
    int n = poll(fds, 2 + n_extra, clock_left_ms(deadline));
    if (n < 0)
        return -errno;
    if (n == 0)
        return -ETIMEDOUT;
    if (fds[1].revents)
        return -EINTR;
    bool ready = false;
    for (size_t i = 0; i < n_extra; i++) {
        extra[i].revents = fds[2 + i].revents;
        ready |= extra[i].revents != 0;
    }
    if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
        int r = fill(c);
        if (r < 0) {
            c->broken = true;
            return c->first ? 1 : -EPIPE;
        }
    }
    return ready ? 0 : 1;
}

int client_poll(struct client *c, struct pollfd *extra, size_t n_extra, uint64_t deadline, struct mvm_error *err)
{
    if (n_extra > MAX_EXTRA)
        return -EINVAL;
    if (c->first)
        return 1;
    int r = step(c, extra, n_extra, deadline);
    if (c->first)
        return 1;
    if (r == -EPIPE)
        return mvm_error_set(err, -EPIPE, "the vm's supervisor closed the connection%s%s",
                             *mux_problem(c->mux) ? ": " : "", mux_problem(c->mux));
    return r < 0 ? mvm_error_errno(err, r, "waiting for the vm") : 0;
}

bool client_next(struct client *c, struct client_event *ret)
{
    client_event_done(c);
    struct queued *q = c->first;
    if (!q)
        return false;
    c->first = q->next;
    if (!c->first)
        c->last = &c->first;
    c->taken = q;
    *ret = q->event;
    return true;
}

void client_event_done(struct client *c)
{
    struct queued *q = c->taken;
    if (!q)
        return;
    c->taken = NULL;
    if (q->event.kind == CLIENT_RECORD)
        mux_consumed(c->mux, q->event.stream, q->event.len);
    free(q);
}

int client_open(struct client *c, const struct buf *request, uint32_t *ret_stream, struct mvm_error *err)
{
    int64_t stream = mux_open(c->mux, request);
    if (stream < 0)
        return mvm_error_errno(err, (int)stream, "cannot open a stream");
    *ret_stream = (uint32_t)stream;
    return 0;
}

/* With the first byte of what is to be sent: a new connection takes it at once. */
static int send_descriptors(struct client *c, const int *fds, size_t n)
{
    const uint8_t *p;
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * PORTS_MAX)];
    } control = {0};
    struct iovec iov = {.iov_len = mux_output(c->mux, &p)};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    iov.iov_base = (void *)(uintptr_t)p;
    *CMSG_FIRSTHDR(&m) =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * n)};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, sizeof(int) * n);
    ssize_t w = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    mux_sent(c->mux, w < 0 ? 0 : (size_t)w);
    return w < 0 ? -errno : 0;
}

int client_open_with(struct client *c, const struct buf *request, const int *fds, size_t n, uint32_t *ret_stream,
                     struct mvm_error *err)
{
    int r = n > PORTS_MAX ? mvm_error_errno(err, -E2BIG, "the request") : client_open(c, request, ret_stream, err);
    if (r == 0 && n > 0 && (r = send_descriptors(c, fds, n)) < 0)
        mvm_error_errno(err, r, "the request");
    return r;
}

/* The peer's last word on the stream is among the events: it reads no more of what is sent. */
static bool peer_has_ended(const struct client *c, uint32_t stream)
{
    for (const struct queued *q = c->first; q; q = q->next)
        if (q->event.stream == stream && q->event.kind != CLIENT_RECORD)
            return true;
    return false;
}

int client_send(struct client *c, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    for (;;) {
        int r = mux_send(c->mux, stream, channel, p, n);
        if (r != -EAGAIN)
            return r;
        if (peer_has_ended(c, stream))
            return -EPIPE;
        /* Where flushing alone makes room there may be nothing to wait for: the peer answers only to more. */
        if (flush(c) == 0 && mux_can_send(c->mux, stream))
            continue;
        r = step(c, NULL, 0, 0);
        if (r < 0)
            return r;
    }
}

bool client_can_send(struct client *c, uint32_t stream)
{
    return mux_can_send(c->mux, stream);
}

void client_close(struct client *c, uint32_t stream)
{
    mux_close(c->mux, stream);
}

void client_reset(struct client *c, uint32_t stream, const char *reason)
{
    mux_reset(c->mux, stream, reason);
    if (flush(c) < 0)
        c->broken = true;
}

/* The first record of a stream, which take() takes. */
static int receive_one(struct client *c, uint32_t stream, uint64_t deadline,
                       int (*take)(void *data, const void *p, size_t n), void *data, struct mvm_error *err)
{
    for (;;) {
        int r = client_poll(c, NULL, 0, deadline, err);
        if (r < 0)
            return r;
        struct client_event e;
        while (client_next(c, &e)) {
            if (e.stream != stream)
                continue;
            if (e.kind != CLIENT_RECORD)
                return mvm_error_set(err, -EPROTO, "the vm gave no answer");
            r = take(data, e.data, e.len);
            client_event_done(c);
            return r < 0 ? mvm_error_errno(err, r, "the vm's answer") : 0;
        }
    }
}

/* One request that the supervisor answers with one record. */
static int ask_supervisor(struct client *c, const struct buf *request, uint64_t deadline,
                          int (*take)(void *data, const void *p, size_t n), void *data, struct mvm_error *err)
{
    uint32_t stream = 0;
    int r = client_open(c, request, &stream, err);
    if (r == 0)
        r = receive_one(c, stream, deadline, take, data, err);
    if (r == 0)
        client_close(c, stream);
    return r;
}

static int take_status(void *data, const void *p, size_t n)
{
    return msg_status_decode(data, p, n);
}

int client_status(struct client *c, struct msg_status *ret, uint64_t deadline, struct mvm_error *err)
{
    CLEAN_BUF struct buf request = BUF_INIT(64);
    int r = msg_begin(&request, MSG_STATUS);
    return r < 0 ? mvm_error_errno(err, r, "request") : ask_supervisor(c, &request, deadline, take_status, ret, err);
}

static int take_exit(void *data, const void *p, size_t n)
{
    return msg_exit_decode(data, p, n);
}

int client_expect_exit(struct client *c, uint32_t stream, uint64_t deadline, struct mvm_error *err)
{
    struct msg_exit m = {0};
    int r = receive_one(c, stream, deadline, take_exit, &m, err);
    if (r == 0 && m.code)
        r = mvm_error_set(err, -EIO, "%s", m.problem);
    return r;
}

int client_set_idle(struct client *c, uint64_t idle_ms, uint64_t deadline, struct mvm_error *err)
{
    CLEAN_BUF struct buf request = BUF_INIT(64);
    const struct msg_idle m = {.idle_ms = idle_ms};
    struct msg_exit done = {0};
    int r = msg_idle_encode(&request, &m);
    return r < 0 ? mvm_error_errno(err, r, "request") : ask_supervisor(c, &request, deadline, take_exit, &done, err);
}

static int take_saved(void *data, const void *p, size_t n)
{
    return msg_saved_decode(data, p, n);
}

int client_save(struct client *c, const struct msg_save *m, struct msg_saved *ret, uint64_t deadline,
                struct mvm_error *err)
{
    CLEAN_BUF struct buf request = BUF_INIT(256);
    int r = msg_save_encode(&request, m);
    return r < 0 ? mvm_error_errno(err, r, "request") : ask_supervisor(c, &request, deadline, take_saved, ret, err);
}

int client_pause(struct client *c, bool pause, uint64_t deadline, struct mvm_error *err)
{
    CLEAN_BUF struct buf request = BUF_INIT(64);
    struct msg_exit m = {0};
    int r = msg_begin(&request, pause ? MSG_PAUSE : MSG_RESUME);
    if (r < 0)
        return mvm_error_errno(err, r, "request");
    r = ask_supervisor(c, &request, deadline, take_exit, &m, err);
    return r == 0 && m.code ? mvm_error_set(err, -EBUSY, "%s", m.problem) : r;
}
