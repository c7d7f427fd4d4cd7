/*
 * This is a worker: it serves one stream, in a process of its own, so that pid 1 stays a small relay which no request
 * can block, exhaust or crash. Packets on its socket are a channel byte and a record's payload; the agent passes them
 * on under flow control. The worker ends when the stream does; the agent ends the worker when the stream is reset.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "guest/guest.h"
#include "guest/nix_store.h"
#include "wire/frame.h"
#include "wire/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NO_MEMORY_MS 5000
#define RETRY_MS     10

/* The kernel has no memory for a packet now: a while later it may. */
static bool wait_for_memory(uint64_t *deadline)
{
    if (!*deadline)
        *deadline = clock_deadline(NO_MEMORY_MS);
    return clock_left_ms(*deadline) > 0 && poll(NULL, 0, RETRY_MS) <= 0;
}

int worker_send(int sock, uint8_t channel, const void *p, size_t n)
{
    uint64_t deadline = 0;
    struct iovec iov[2] = {{&channel, 1}, {(void *)(uintptr_t)p, n}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    for (;;) {
        ssize_t w = sendmsg(sock, &m, MSG_NOSIGNAL);
        if (w >= 0)
            return 0;
        if (errno == EAGAIN) {
            struct pollfd pfd = {.fd = sock, .events = POLLOUT};
            (void)!poll(&pfd, 1, -1);
        } else if (errno != EINTR) {
            int r = -errno;
            if ((r != -ENOBUFS && r != -ENOMEM) || !wait_for_memory(&deadline))
                return r;
        }
    }
}

int worker_recv(int sock, struct buf *b)
{
    buf_clear(b);
    int r = buf_reserve(b, FRAME_MAX_PAYLOAD + 1);
    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = fd_recv_packet(sock, b->data, FRAME_MAX_PAYLOAD + 1, 0);
        if (n >= 0) {
            b->len = (size_t)n;
            return n > 0;
        }
        if (n != -EAGAIN)
            return (int)n;
        struct pollfd pfd = {.fd = sock, .events = POLLIN};
        (void)!poll(&pfd, 1, -1);
    }
}

void worker_last(int sock, const struct buf *b, int r)
{
    if (r == 0)
        r = worker_send(sock, CHAN_MSG, b->data, b->len);
    /* Without a peer there is nobody to tell; else the agent tells by the exit status. */
    if (r < 0 && r != -EPIPE && r != -ECONNRESET)
        boot_log("a worker's last word is lost: %s", strerror(-r));
    _exit(r < 0 ? -r : 0);
}

void worker_exit(int sock, uint64_t code, const char *problem)
{
    struct msg_exit m = {.code = code};
    struct buf b = BUF_INIT(2048);
    snprintf(m.problem, sizeof(m.problem), "%s", problem);
    int r = msg_exit_encode(&b, &m);
    worker_last(sock, &b, r);
}

/* ---- Files in and out ---- */

static int emit(void *data, uint8_t channel, const void *p, size_t n)
{
    return worker_send(*(int *)data, channel, p, n);
}

/* Where a pushed tree goes: into the folder that path names, or under that name into its parent. */
static int open_target(const char *path, const char **ret_top)
{
    struct stat st;
    size_t n = strlen(path);
    *ret_top = NULL;
    if (n && path[n - 1] == '/' && mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
    }
    CLEAN_FREE char *parent = strdup(path);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (!slash || !slash[1])
        return -EINVAL;
    *ret_top = path + (slash - parent) + 1;
    slash[slash == parent] = '\0';
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void push_serve(int sock, const struct msg_transfer *m)
{
    struct mvm_error err = MVM_ERROR_INIT;
    static const struct tree_limits limits = {
        .max_bytes = UINT64_MAX / 2, .max_size = UINT64_MAX / 2, .max_entries = 10000000};
    struct tree_receiver t;
    struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD + 64);
    const char *top;
    int dir = m->path && m->path[0] == '/' ? open_target(m->path, &top) : -EINVAL;
    if (dir < 0) {
        mvm_error_errno(&err, dir, "cannot open %s", m->path ? m->path : "a path without a name");
        worker_exit(sock, 1, err.msg);
    }
    tree_receiver_init(&t, dir, &limits);
    t.top = top;
    t.one_top = true;
    t.replace = true;
    int r = 0;
    while (r == 0 && !t.complete) {
        r = worker_recv(sock, &b);
        if (r == 0)
            mvm_error_set(&err, r = -EPIPE, "the tree ended early");
        else if (r > 0)
            r = tree_receive(&t, b.data[0], b.data + 1, b.len - 1, &err);
    }
    tree_receiver_done(&t);
    worker_exit(sock, r < 0, r < 0 ? err.msg : "");
}

void pull_serve(int sock, const struct msg_transfer *m)
{
    struct tree_sender s = {.emit = emit, .data = &sock, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    struct mvm_error err = MVM_ERROR_INIT;
    char real[4096];
    const char *path = m->path;
    if (path && m->follow && realpath(path, real))
        path = real;
    /* The name that was asked for: the host takes no other one, wherever a symlink leads. */
    const char *slash = m->path ? strrchr(m->path, '/') : NULL;
    const char *name = slash ? slash + 1 : m->path;
    if (!path || !*name)
        worker_exit(sock, 1, "a path without a name");
    int r = tree_send_path(&s, AT_FDCWD, path, name, &err);
    if (r == 0)
        r = tree_send_end(&s, &err);
    worker_exit(sock, r < 0, r < 0 ? err.msg : "");
}

void flood_serve(int sock, const struct msg_flood *m)
{
    static uint8_t chunk[FRAME_MAX_PAYLOAD];
    struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD + 64);
    for (uint64_t left = m->send; left;) {
        size_t n = (size_t)MIN_OF(left, (uint64_t)sizeof(chunk));
        if (worker_send(sock, CHAN_OUT, chunk, n) < 0)
            _exit(1);
        left -= n;
    }
    while (worker_recv(sock, &b) > 0)
        ;
    worker_exit(sock, 0, "");
}

/* ---- Dispatch ---- */

static void serve_exec(int sock, const void *p, size_t n, const struct guest_conf *conf)
{
    struct msg_exec m = {0};
    if (msg_exec_decode(&m, p, n) < 0 || m.argv.n == 0)
        worker_exit(sock, 125, "the request cannot be understood");
    exec_serve(sock, &m, conf);
}

static void serve_transfer(int sock, uint8_t type, const void *p, size_t n)
{
    struct msg_transfer m = {0};
    if (msg_transfer_decode(&m, type, p, n) < 0)
        worker_exit(sock, 1, "the request cannot be understood");
    if (type == MSG_PUSH)
        push_serve(sock, &m);
    pull_serve(sock, &m);
}

/* The request that MSG_LONG announced. What it is made of stays. */
static void receive_long(int sock, const void **request, size_t *len)
{
    static struct buf whole = BUF_INIT(MSG_LONG_MAX);
    static struct msg_part part;
    struct msg_long m = {0};
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD + 64);
    int r = msg_long_decode(&m, *request, *len);
    while (r >= 0 && whole.len < m.size) {
        part.len = 0;
        r = worker_recv(sock, &b);
        if (r == 0)
            _exit(0); /* the host has gone */
        if (r > 0)
            r = b.data[0] == CHAN_MSG ? msg_part_decode(&part, b.data + 1, b.len - 1) : -EPROTO;
        if (r == 0)
            r = part.len <= m.size - whole.len ? buf_append(&whole, part.bytes, part.len) : -EPROTO;
    }
    if (r < 0)
        worker_exit(sock, 125, "the request cannot be understood");
    *request = whole.data;
    *len = whole.len;
}

void worker_main(int sock, const void *request, size_t len, const struct guest_conf *conf, bool builder, unsigned job)
{
    struct msg_reader r;
    struct msg_flood flood = {0};
    struct msg_build build = {0};
    struct msg_store store = {0};
    if (msg_open(&r, request, len) == 0 && r.type == MSG_LONG)
        receive_long(sock, &request, &len);
    if (msg_open(&r, request, len) < 0)
        worker_exit(sock, 1, "the request cannot be understood");
    switch (r.type) {
    case MSG_EXEC:
        serve_exec(sock, request, len, conf);
        break;
    case MSG_PUSH:
    case MSG_PULL:
        serve_transfer(sock, r.type, request, len);
        break;
    case MSG_FLOOD:
        if (msg_flood_decode(&flood, request, len) == 0)
            flood_serve(sock, &flood);
        break;
    case MSG_BUILD:
        if (builder && msg_build_decode(&build, request, len) == 0)
            build_serve(sock, &build, job);
        break;
    case MSG_STORE:
        if (builder && msg_store_decode(&store, request, len) == 0)
            nix_store_serve(sock, &store);
        break;
    case MSG_FREEZE:
        if (builder)
            freeze_serve(sock);
        break;
    default:
        break;
    }
    worker_exit(sock, 1, "this guest does not serve that request");
}
