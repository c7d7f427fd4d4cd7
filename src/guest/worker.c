/*
 * This is a worker: it serves one stream, in a process of its own, so that pid 1 stays a small relay which no request
 * can block, exhaust or crash. Packets on its socket are a channel byte and a record's payload; the agent passes them
 * on under flow control. The worker ends when the stream does; the agent ends the worker when the stream is reset.
 */
#include "guest/worker.h"
#include "base/buf.h"
#include "base/fd.h"
#include "guest/build.h"
#include "guest/cgroup.h"
#include "guest/conf.h"
#include "guest/exec.h"
#include "guest/freeze.h"
#include "guest/nix_store.h"
#include "guest/oom.h"
#include "guest/transfer.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg_build.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET_BUF (512 * 1024)

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

static void serve(int sock, const void *request, size_t len, const struct guest_conf *conf, bool builder, unsigned job)
    __attribute__((noreturn));
static void serve(int sock, const void *request, size_t len, const struct guest_conf *conf, bool builder, unsigned job)
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

/* ---- The agent's side ---- */

static void child_begins(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    oom_spare_no_more();
    setpriority(PRIO_PROCESS, 0, 0);
}

pid_t worker_start(const void *request, size_t len, const struct guest_conf *conf, bool builder, unsigned job,
                   int *ret_sock)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    CLEAN_FD int ours = pair[0];
    CLEAN_FD int theirs = pair[1];
    int size = SOCKET_BUF;
    setsockopt(ours, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    setsockopt(theirs, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        child_begins();
        serve(theirs, request, len, conf, builder, job);
    }
    *ret_sock = TAKE_FD(ours);
    return pid;
}

void worker_clean(unsigned job)
{
    pid_t pid = fork();
    if (pid == 0) {
        child_begins();
        build_clean(job);
        _exit(0);
    }
    if (pid < 0)
        cgroup_kill(job); /* its files go when the store is mounted next */
}

/* What became of a worker that ended without its last word. */
static bool describe_end(pid_t pid, int status, char *out, size_t size)
{
    bool oom = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && oom_killed(pid);
    if (WIFSIGNALED(status))
        snprintf(out, size, "the worker in the guest was killed by signal %d (%s)%s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)), oom ? ": the guest ran out of memory" : "");
    else if (WEXITSTATUS(status)) /* worker_last() */
        snprintf(out, size, "the worker in the guest could not send its answer: %s", strerror(WEXITSTATUS(status)));
    else
        snprintf(out, size, "the worker in the guest ended without an answer");
    return oom;
}

int worker_lost(struct buf *b, uint8_t type, pid_t pid, int status)
{
    struct msg_exit m = {.code = 125};
    struct msg_result result = {.exit_code = 125};
    struct msg_store_reply reply = {0};
    bool oom = describe_end(pid, status, m.problem, sizeof(m.problem));
    snprintf(result.problem, sizeof(result.problem), "%s", m.problem);
    snprintf(result.phase, sizeof(result.phase), "%s", mvm_phase_name(MVM_PHASE_BUILDER_BOOTSTRAP));
    snprintf(result.kind, sizeof(result.kind), "%s", oom ? "out-of-memory" : "");
    snprintf(reply.problem, sizeof(reply.problem), "%s", m.problem);
    return type == MSG_BUILD   ? msg_result_encode(b, &result)
           : type == MSG_STORE ? msg_store_reply_encode(b, &reply)
                               : msg_exit_encode(b, &m);
}
