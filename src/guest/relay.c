/*
 * Relays between the channel's streams and the processes that serve them, on the agent's loop.
 *
 * Flow control: a record from the host goes to the worker's socket; where that is full it waits here, not consumed, and
 * the stream's window closes. A packet from a worker is read only while the multiplexer takes records for its stream.
 *
 * A build may have to wait for its turn (jobs.h). It has no process then: its request and its records are kept here,
 * the latter bounded by the stream's window.
 */
#include "guest/relay.h"
#include "base/buf.h"
#include "base/fd.h"
#include "guest/cgroup.h"
#include "guest/conf.h"
#include "guest/jobs.h"
#include "guest/worker.h"
#include "wire/msg_build.h"
#include "wire/mux.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* A record that a worker's socket had no room for. */
struct waiting {
    struct waiting *next;
    size_t len;       /* payload */
    uint8_t packet[]; /* channel byte and payload */
};

struct worker {
    struct worker *next;
    uint32_t stream; /* 0 once the stream is gone */
    pid_t pid;       /* 0 once reaped */
    pid_t was;       /* the same, and stays */
    int sock;        /* -1 once closed by the worker */
    int status;      /* as from waitpid(2) */
    bool said_end;   /* the last record of its kind of request went by */
    bool host_closed;
    uint8_t type;    /* of its request */
    unsigned job;    /* of a build: its number; else 0 */
    uint32_t events; /* epoll events asked for */
    void *request;   /* of a build that waits for its turn; else NULL */
    size_t request_len;
    struct waiting *first, **last;
};

static struct {
    struct mux *mux;
    int epoll;
    const struct guest_conf *conf;
    bool builder;
    struct worker *workers;
    struct jobs jobs;
    bool queue_moved; /* jobs came or went */
    uint8_t packet[1 + FRAME_MAX_PAYLOAD];
} serving;

static struct worker *find_stream(uint32_t stream)
{
    for (struct worker *w = serving.workers; w; w = w->next)
        if (w->stream == stream)
            return w;
    return NULL;
}

static void watch(struct worker *w, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    epoll_ctl(serving.epoll, op, w->sock, &e);
}

static void watch_worker(struct worker *w)
{
    uint32_t events = w->first ? EPOLLOUT : 0;
    if (w->stream && mux_can_send(serving.mux, w->stream))
        events |= EPOLLIN;
    if (w->sock < 0 || events == w->events)
        return;
    watch(w, EPOLL_CTL_MOD, events);
    w->events = events;
}

/* What a worker did not read is lost, as on a pipe, and must not keep the host waiting for a wider window. */
static void drop_waiting(struct worker *w)
{
    while (w->first) {
        struct waiting *x = w->first;
        w->first = x->next;
        if (w->stream)
            mux_consumed(serving.mux, w->stream, x->len);
        free(x);
    }
    w->last = &w->first;
}

static void send_msg(const struct worker *w, const struct buf *m)
{
    (void)!mux_send(serving.mux, w->stream, CHAN_MSG, m->data, m->len);
}

/* It ended without its last word, as far as its kind of request has one. */
static void say_lost(const struct worker *w)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    if (worker_lost(&b, w->type, w->was, w->status) == 0)
        send_msg(w, &b);
}

static void forget(struct worker *w)
{
    for (struct worker **p = &serving.workers; *p; p = &(*p)->next) {
        if (*p == w) {
            *p = w->next;
            break;
        }
    }
    drop_waiting(w);
    free(w->request);
    free(w);
}

/* A worker is forgotten when its process is reaped and its socket read to the end. */
static void forget_if_done(struct worker *w)
{
    if (w->pid || w->sock >= 0 || w->request)
        return;
    if (w->stream) {
        if (!w->said_end)
            say_lost(w);
        mux_close(serving.mux, w->stream);
    }
    forget(w);
}

/* The host is not interested any more. One that is left without a process is forgotten by the caller. */
static void end_worker(struct worker *w)
{
    w->stream = 0;
    drop_waiting(w);
    if (w->pid) {
        if (w->job)
            cgroup_kill(w->job);
        kill(w->pid, w->job ? SIGKILL : SIGTERM);
    } else if (w->job) {
        jobs_remove(&serving.jobs, w->job);
        free(TAKE_PTR(w->request));
    }
    fd_closep(&w->sock);
}

/* ---- Processes ---- */

static int start_worker(struct worker *w, const void *request, size_t len)
{
    pid_t pid = worker_start(request, len, serving.conf, serving.builder, w->job, &w->sock);
    if (pid < 0)
        return pid;
    w->pid = w->was = pid;
    w->events = EPOLLIN;
    watch(w, EPOLL_CTL_ADD, EPOLLIN);
    return 0;
}

/* ---- Builds that wait ---- */

static void send_queued(const struct worker *w)
{
    struct msg_phase m = {.name = "queue", .before = jobs_before(&serving.jobs, w->job)};
    CLEAN_BUF struct buf b = BUF_INIT(256);
    if (msg_phase_encode(&b, &m) == 0)
        send_msg(w, &b);
}

static struct worker *find_job(unsigned job)
{
    struct worker *w = serving.workers;
    while (w && w->job != job)
        w = w->next;
    return w;
}

static void drain_waiting(struct worker *w);

/* Its turn has come. */
static void start_queued(struct worker *w)
{
    CLEAN_FREE void *request = TAKE_PTR(w->request);
    if (start_worker(w, request, w->request_len) == 0) {
        drain_waiting(w);
        watch_worker(w);
        return;
    }
    jobs_remove(&serving.jobs, w->job);
    mux_reset(serving.mux, w->stream, "out of memory in the guest");
    forget(w);
}

/* Jobs have ended: others begin, and those that still wait learn where they are. */
static void serve_queue(void)
{
    for (unsigned job; (job = jobs_start(&serving.jobs));) {
        struct worker *w = find_job(job);
        if (w)
            start_queued(w);
        else
            jobs_remove(&serving.jobs, job);
    }
    for (struct worker *w = serving.workers; w; w = w->next)
        if (w->request && w->stream)
            send_queued(w);
}

/* How many jobs at once the host wishes (MSG_BUILD_MAX_JOBS), read without decoding the whole request. */
static uint64_t job_limit(struct msg_reader *r)
{
    uint64_t limit = 0;
    while (msg_next(r))
        if (r->field == MSG_BUILD_MAX_JOBS && r->len == 8)
            limit = msg_u64(r);
    return limit;
}

static int queue_job(struct worker *w, const void *p, size_t n, uint64_t limit)
{
    w->job = jobs_add(&serving.jobs, limit);
    w->request = malloc(n);
    if (!w->job || !w->request) {
        jobs_remove(&serving.jobs, w->job);
        return w->job ? -ENOMEM : -EBUSY;
    }
    memcpy(w->request, p, n);
    w->request_len = n;
    return 0;
}

int relay_open(uint32_t stream, const void *p, size_t n)
{
    struct msg_reader r;
    struct worker *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->type = msg_open(&r, p, n) == 0 ? r.type : 0;
    bool build = serving.builder && w->type == MSG_BUILD;
    w->stream = stream;
    w->sock = -1;
    w->last = &w->first;
    int e = build ? queue_job(w, p, n, job_limit(&r)) : start_worker(w, p, n);
    if (e < 0) {
        free(w->request);
        free(w);
        return e;
    }
    w->next = serving.workers;
    serving.workers = w;
    if (build)
        serving.queue_moved = true;
    return 0;
}

static int send_packet(int sock, uint8_t channel, const void *p, size_t n)
{
    struct iovec iov[2] = {{&channel, 1}, {(void *)(uintptr_t)p, n}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = n ? 2 : 1};
    return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* There is no room for a packet now. */
static bool is_full(int r)
{
    return r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM;
}

int relay_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    struct worker *w = find_stream(stream);
    bool queued = w && w->request;
    int r = queued ? -EAGAIN : -EPIPE;
    if (w && w->sock >= 0 && !w->first)
        r = send_packet(w->sock, channel, p, n);
    if (!w || (w->sock < 0 && !queued) || (r < 0 && !is_full(r) && !w->first)) {
        mux_consumed(serving.mux, stream, n); /* as drop_waiting() does it */
        return 0;
    }
    if (r == 0) {
        mux_consumed(serving.mux, stream, n);
        return 0;
    }
    struct waiting *x = malloc(sizeof(*x) + 1 + n);
    if (!x)
        return -ENOMEM;
    x->next = NULL;
    x->len = n;
    x->packet[0] = channel;
    if (n)
        memcpy(x->packet + 1, p, n);
    *w->last = x;
    w->last = &x->next;
    watch_worker(w);
    return 0;
}

/* The host's half close reaches the worker behind everything that waits. */
static void pass_close(struct worker *w)
{
    if (w->host_closed && !w->first && w->sock >= 0)
        shutdown(w->sock, SHUT_WR);
}

static void drain_waiting(struct worker *w)
{
    while (w->first) {
        struct waiting *x = w->first;
        int r = send_packet(w->sock, x->packet[0], x->packet + 1, x->len);
        if (is_full(r))
            break;
        w->first = x->next;
        if (!w->first)
            w->last = &w->first;
        mux_consumed(serving.mux, w->stream, x->len);
        free(x);
    }
    pass_close(w);
}

void relay_closed(void *data, uint32_t stream)
{
    struct worker *w = find_stream(stream);
    if (w) {
        w->host_closed = true;
        pass_close(w);
    }
}

void relay_reset(void *data, uint32_t stream, const char *reason)
{
    struct worker *w = find_stream(stream);
    if (!w)
        return;
    end_worker(w); /* forgotten when it is reaped */
    if (!w->pid) {
        forget(w);
        serving.queue_moved = true;
    }
}

void relay_writable(void *data, uint32_t stream)
{
    struct worker *w = find_stream(stream);
    if (w)
        watch_worker(w);
}

/* Packets from a worker, while its stream takes them. */
static void on_worker_output(struct worker *w)
{
    while (w->stream && mux_can_send(serving.mux, w->stream)) {
        ssize_t n = fd_recv_packet(w->sock, serving.packet, sizeof(serving.packet), MSG_DONTWAIT);
        /* A reset is told once, before what the worker sent: it ended without reading all that it got. */
        if (n == -ECONNRESET)
            continue;
        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            fd_closep(&w->sock);
            drop_waiting(w);
            return;
        }
        if (serving.packet[0] == CHAN_MSG && n > 1 &&
            (serving.packet[1] == MSG_EXIT || serving.packet[1] == MSG_RESULT || serving.packet[1] == MSG_STORE_REPLY))
            w->said_end = true;
        if (mux_send(serving.mux, w->stream, serving.packet[0], serving.packet + 1, (size_t)n - 1) < 0) {
            mux_reset(serving.mux, w->stream, "out of memory in the guest");
            end_worker(w);
            return;
        }
    }
}

void relay_event(void *ptr, uint32_t events)
{
    struct worker *w = serving.workers;
    while (w && w != ptr)
        w = w->next;
    if (!w || w->sock < 0)
        return;
    if (events & EPOLLOUT)
        drain_waiting(w);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        on_worker_output(w);
    watch_worker(w);
    forget_if_done(w);
}

/* ---- All of them ---- */

void relay_init(struct mux *mux, int epoll, const struct guest_conf *conf, bool builder)
{
    serving.mux = mux;
    serving.epoll = epoll;
    serving.conf = conf;
    serving.builder = builder;
}

void relay_reaped(pid_t pid, int status)
{
    for (struct worker *w = serving.workers; w; w = w->next) {
        if (w->pid != pid)
            continue;
        w->pid = 0;
        w->status = status;
        if (w->job) {
            worker_clean(w->job);
            jobs_remove(&serving.jobs, w->job);
            serving.queue_moved = true;
        }
        forget_if_done(w);
        return;
    }
}

void relay_watch(void)
{
    if (serving.queue_moved) {
        serving.queue_moved = false;
        serve_queue();
    }
    for (struct worker *w = serving.workers; w; w = w->next)
        watch_worker(w);
}

void relay_end_all(void)
{
    for (struct worker *w = serving.workers, *next; w; w = next) {
        next = w->next;
        end_worker(w);
        if (!w->pid)
            forget(w);
    }
}

bool relay_busy(void)
{
    return serving.workers;
}
