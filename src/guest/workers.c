/*
 * Relays between the channel's streams and the processes that serve them, on the agent's loop.
 *
 * Flow control: a record from the host goes to the worker's socket; where that is full it waits here, not consumed, and
 * the stream's window closes. A packet from a worker is read only while the multiplexer takes records for its stream.
 */
#include "base/fd.h"
#include "guest/guest.h"
#include "wire/mux.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_BUF (512 * 1024)

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
    int sock;        /* -1 once closed by the worker */
    bool said_end;   /* the last record of its kind of request went by */
    bool host_closed, build;
    uint32_t events; /* epoll events asked for */
    struct waiting *first, **last;
};

static struct {
    struct mux *mux;
    int epoll;
    const struct guest_conf *conf;
    bool builder;
    struct worker *workers;
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

static void drop_waiting(struct worker *w)
{
    while (w->first) {
        struct waiting *x = w->first;
        w->first = x->next;
        free(x);
    }
    w->last = &w->first;
}

/* A worker is forgotten when its process is reaped and its socket read to the end. */
static void forget_if_done(struct worker *w)
{
    if (w->pid || w->sock >= 0)
        return;
    if (w->stream) {
        if (!w->said_end) {
            struct msg_exit m = {.code = 125, .problem = "the worker in the guest was killed (out of memory?)"};
            CLEAN_BUF struct buf b = BUF_INIT(1024);
            if (msg_exit_encode(&b, &m) == 0)
                (void)!mux_send(serving.mux, w->stream, CHAN_MSG, b.data, b.len);
        }
        mux_close(serving.mux, w->stream);
    }
    for (struct worker **p = &serving.workers; *p; p = &(*p)->next) {
        if (*p == w) {
            *p = w->next;
            break;
        }
    }
    drop_waiting(w);
    free(w);
}

static void build_cgroup(pid_t pid, char *path, size_t size)
{
    snprintf(path, size, CGROUP "/mvm-build-%d", (int)pid);
}

/* Everything a build started, wherever it hides, is in its cgroup. */
static void kill_build(pid_t pid)
{
    char path[128], file[160];
    build_cgroup(pid, path, sizeof(path));
    snprintf(file, sizeof(file), "%s/cgroup.kill", path);
    CLEAN_FD int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!fd_write_all(fd, "1", 1);
}

/* The host is not interested any more. */
static void end_worker(struct worker *w)
{
    w->stream = 0;
    drop_waiting(w);
    if (w->pid) {
        if (w->build)
            kill_build(w->pid);
        kill(w->pid, w->build ? SIGKILL : SIGTERM);
    }
    fd_closep(&w->sock);
}

static void enter_cgroup(void)
{
    char path[128];
    build_cgroup(getpid(), path, sizeof(path));
    if (mkdir(path, 0755) < 0)
        return;
    CLEAN_FD int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int procs = dir >= 0 ? openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
    if (procs >= 0)
        (void)!fd_write_all(procs, "0", 1);
}

static void child_process(int sock, const void *request, size_t len, bool build)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    CLEAN_FD int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (oom >= 0)
        (void)!fd_write_all(oom, "0", 1);
    setpriority(PRIO_PROCESS, 0, 0);
    if (build)
        enter_cgroup();
    worker_main(sock, request, len, serving.conf, serving.builder);
}

int workers_open(uint32_t stream, const void *p, size_t n)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    CLEAN_FD int ours = pair[0];
    CLEAN_FD int theirs = pair[1];
    int size = SOCKET_BUF;
    setsockopt(ours, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    setsockopt(theirs, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    struct worker *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    struct msg_reader r;
    w->build = msg_open(&r, p, n) == 0 && r.type == MSG_BUILD;
    w->pid = fork();
    if (w->pid < 0) {
        int e = -errno;
        free(w);
        return e;
    }
    if (w->pid == 0)
        child_process(theirs, p, n, w->build);
    w->stream = stream;
    w->sock = TAKE_FD(ours);
    w->last = &w->first;
    w->events = EPOLLIN;
    w->next = serving.workers;
    serving.workers = w;
    watch(w, EPOLL_CTL_ADD, EPOLLIN);
    return 0;
}

static int send_packet(int sock, uint8_t channel, const void *p, size_t n)
{
    struct iovec iov[2] = {{&channel, 1}, {(void *)(uintptr_t)p, n}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = n ? 2 : 1};
    return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int workers_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    struct worker *w = find_stream(stream);
    int r = -EPIPE;
    if (w && w->sock >= 0 && !w->first)
        r = send_packet(w->sock, channel, p, n);
    if (!w || w->sock < 0 || (r < 0 && r != -EAGAIN && r != -ENOBUFS && !w->first)) {
        mux_consumed(serving.mux, stream, n); /* the worker has ended: what it did not read is lost, as on a pipe */
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
        if (r == -EAGAIN || r == -ENOBUFS)
            break;
        w->first = x->next;
        if (!w->first)
            w->last = &w->first;
        mux_consumed(serving.mux, w->stream, x->len);
        free(x);
    }
    pass_close(w);
}

void workers_closed(void *data, uint32_t stream)
{
    struct worker *w = find_stream(stream);
    if (w) {
        w->host_closed = true;
        pass_close(w);
    }
}

void workers_reset(void *data, uint32_t stream, const char *reason)
{
    struct worker *w = find_stream(stream);
    if (w)
        end_worker(w); /* forgotten when it is reaped */
}

void workers_writable(void *data, uint32_t stream)
{
    struct worker *w = find_stream(stream);
    if (w)
        watch_worker(w);
}

/* Packets from a worker, while its stream takes them. */
static void on_worker_output(struct worker *w)
{
    while (w->stream && mux_can_send(serving.mux, w->stream)) {
        ssize_t n = recv(w->sock, serving.packet, sizeof(serving.packet), MSG_DONTWAIT);
        /* A reset is told once, before what the worker sent: it ended without reading all that it got. */
        if (n < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            fd_closep(&w->sock);
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

void workers_event(void *ptr, uint32_t events)
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

void workers_init(struct mux *mux, int epoll, const struct guest_conf *conf, bool builder)
{
    serving.mux = mux;
    serving.epoll = epoll;
    serving.conf = conf;
    serving.builder = builder;
}

void workers_reaped(pid_t pid)
{
    for (struct worker *w = serving.workers; w; w = w->next) {
        if (w->pid != pid)
            continue;
        w->pid = 0;
        if (w->build) {
            char path[128];
            kill_build(pid);
            build_cgroup(pid, path, sizeof(path));
            rmdir(path);
        }
        forget_if_done(w);
        return;
    }
}

void workers_watch(void)
{
    for (struct worker *w = serving.workers; w; w = w->next)
        watch_worker(w);
}

void workers_end_all(void)
{
    for (struct worker *w = serving.workers; w; w = w->next)
        end_worker(w);
}
