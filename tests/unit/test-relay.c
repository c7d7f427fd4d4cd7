/*
 * The agent's workers without a guest: a client's multiplexer, the agent's, and real workers between sockets that lie
 * and fail on demand, by --wrap (see meson.build).
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/cgroup.h"
#include "guest/conf.h"
#include "guest/interpreter.h"
#include "guest/oom.h"
#include "guest/relay.h"
#include "tap.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t own;         /* of the agent; a worker has another */
static bool early_end;    /* recv says the end once before each packet, as if that had come a moment later */
static int send_error;    /* a worker's sendmsg fails with it ... */
static unsigned failures; /* ... so many times */

ssize_t __real_recv(int fd, void *p, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t n, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
void __wrap_boot_log(const char *fmt, ...);

ssize_t __wrap_recv(int fd, void *p, size_t n, int flags)
{
    static bool said;
    char byte;
    if (early_end && !said && __real_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
        said = true;
        return 0;
    }
    said = false;
    return __real_recv(fd, p, n, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
    if (getpid() == own || failures == 0)
        return __real_sendmsg(fd, m, flags);
    failures--;
    errno = send_error;
    return -1;
}

void __wrap_boot_log(const char *fmt, ...)
{
}

/* ---- A client and an agent ---- */

static struct {
    struct mux *client, *agent;
    int epoll;
    uint32_t hidden; /* events that the agent does not get to see */
    size_t received;
    bool ended, closed;
    struct msg_exit last;
} at;

static int on_open(void *data, uint32_t stream, const void *p, size_t n)
{
    return relay_open(stream, p, n);
}

static int on_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    mux_consumed(at.client, stream, n);
    if (channel == CHAN_MSG)
        at.ended = msg_exit_decode(&at.last, p, n) == 0;
    else
        at.received += n;
    return 0;
}

static void on_closed(void *data, uint32_t stream)
{
    at.closed = true;
}

static void on_client_reset(void *data, uint32_t stream, const char *reason)
{
    at.closed = true;
}

static const struct mux_events agent_events = {
    .open = on_open,
    .record = relay_record,
    .closed = relay_closed,
    .reset = relay_reset,
    .writable = relay_writable,
};
static const struct mux_events client_events = {.record = on_record, .closed = on_closed, .reset = on_client_reset};

static bool carry(struct mux *from, struct mux *to)
{
    const uint8_t *p;
    size_t n, all = 0;
    while ((n = mux_output(from, &p)) > 0) {
        if (mux_input(to, p, n) < 0)
            abort();
        mux_sent(from, n);
        all += n;
    }
    return all;
}

static void carry_all(void)
{
    while (carry(at.client, at.agent) || carry(at.agent, at.client))
        relay_watch();
}

/* A round of the agent's loop. */
static void round_of_agent(void)
{
    struct epoll_event events[8];
    carry_all();
    int n = epoll_wait(at.epoll, events, ARRAY_SIZE(events), 20);
    for (int i = 0; i < n; i++)
        relay_event(events[i].data.ptr, events[i].events & ~at.hidden);
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        relay_reaped(pid, status);
    relay_watch();
    carry_all();
}

static void run_to_end(void)
{
    uint64_t deadline = clock_deadline(20000);
    while (!at.closed && clock_left_ms(deadline) > 0)
        round_of_agent();
}

static uint32_t begin(const struct buf *request)
{
    static const struct guest_conf conf;
    at.client = mux_new(true, &client_events, NULL);
    at.agent = mux_new(false, &agent_events, NULL);
    at.epoll = epoll_create1(EPOLL_CLOEXEC);
    at.hidden = 0;
    at.received = 0;
    at.ended = at.closed = false;
    at.last = (struct msg_exit){0};
    if (!at.client || !at.agent || at.epoll < 0)
        abort();
    relay_init(at.agent, at.epoll, &conf, false);
    int64_t stream = mux_open(at.client, request);
    if (stream < 0)
        abort();
    carry_all();
    return (uint32_t)stream;
}

static void end(void)
{
    relay_end_all();
    mux_free(at.client);
    mux_free(at.agent);
    close(at.epoll);
    while (relay_busy()) {
        int status;
        pid_t pid = wait(&status);
        if (pid < 0)
            break;
        relay_reaped(pid, status);
    }
}

/* A worker that sends so many bytes and then swallows what comes. */
static uint32_t begin_flood(uint64_t send)
{
    CLEAN_BUF struct buf b = BUF_INIT(256);
    if (msg_flood_encode(&b, &(struct msg_flood){.send = send}) < 0)
        abort();
    return begin(&b);
}

/* The worker: this process's only child. */
static pid_t worker(void)
{
    char path[64], text[32] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)own);
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
        abort();
    return (pid_t)atoi(text);
}

/* ---- Tests ---- */

static void test_end_of_socket(void)
{
    static const char *const names[] = {
        "R15: the last word of a worker is heard",
        "R15: also where it comes behind the kernel's word that the worker has closed",
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        early_end = i == 1;
        uint32_t stream = begin_flood(1000000);
        bool sent = mux_send(at.client, stream, CHAN_OUT, "more", 4) == 0;
        mux_close(at.client, stream);
        run_to_end();
        ok(sent && at.ended && at.last.code == 0 && !at.last.problem[0] && at.received == 1000000, "%s (%s)", names[i],
           at.last.problem);
        end();
    }
    early_end = false;
}

static void test_signal(void)
{
    begin_flood(0);
    kill(worker(), SIGTERM);
    run_to_end();
    ok(at.ended && at.last.code == 125 && strstr(at.last.problem, "killed by signal 15 (Terminated)") != NULL,
       "R15: a worker that was killed is told with its signal (%s)", at.last.problem);
    end();
}

static void test_lost_word(void)
{
    send_error = ENOBUFS;
    failures = 3;
    uint32_t stream = begin_flood(0);
    mux_close(at.client, stream);
    run_to_end();
    ok(at.ended && at.last.code == 0 && !at.last.problem[0],
       "R15: a worker waits for the kernel to have memory for its answer (%s)", at.last.problem);
    end();
    send_error = EIO;
    failures = 1;
    stream = begin_flood(0);
    mux_close(at.client, stream);
    run_to_end();
    ok(at.ended && at.last.code == 125 && strstr(at.last.problem, "could not send its answer: Input/output error"),
       "R15: a worker that cannot send its answer is told with the error (%s)", at.last.problem);
    failures = 0;
    end();
}

static int wait_stopped(pid_t pid)
{
    int status;
    return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) ? 0 : -1;
}

/* A worker that reads nothing and dies, and whose end the agent hears of before its socket's memory is free again. */
static void test_unread(void)
{
    enum { MANY = 4u << 20 };
    static uint8_t chunk[32768];
    uint32_t stream = begin_flood(0);
    pid_t pid = worker();
    size_t sent = 0;
    bool killed = false;
    if (kill(pid, SIGSTOP) < 0 || wait_stopped(pid) < 0)
        abort();
    at.hidden = EPOLLOUT;
    for (unsigned tries = 0; sent < MANY && tries < 500; tries++) {
        while (sent < MANY && mux_send(at.client, stream, CHAN_OUT, chunk, sizeof(chunk)) == 0) {
            sent += sizeof(chunk);
            carry_all();
        }
        if (!killed && tries == 10)
            killed = kill(pid, SIGKILL) == 0;
        if (killed)
            round_of_agent();
    }
    ok(killed && sent == MANY, "R5: what a dead worker did not read keeps no client from sending (%zu bytes)", sent);
    at.hidden = 0;
    run_to_end();
    ok(at.ended && at.last.code == 125, "R5: and the client hears that it died");
    end();
}

/* A request in parts of so many bytes, the announced size beside the true one. */
static void send_long(const struct buf *request, uint64_t size, size_t piece)
{
    static struct msg_part part;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    if (msg_long_encode(&b, &(struct msg_long){.size = size}) < 0)
        abort();
    uint32_t stream = begin(&b);
    for (size_t i = 0; i < request->len; i += piece) {
        part.len = MIN_OF(piece, request->len - i);
        memcpy(part.bytes, request->data + i, part.len);
        if (msg_part_encode(&b, &part) < 0 || mux_send(at.client, stream, CHAN_MSG, b.data, b.len) < 0)
            abort();
    }
    mux_close(at.client, stream);
    run_to_end();
    end();
}

static void test_long_request(void)
{
    CLEAN_BUF struct buf flood = BUF_INIT(256);
    if (msg_flood_encode(&flood, &(struct msg_flood){.send = 70000}) < 0)
        abort();
    send_long(&flood, flood.len, 1);
    ok(at.ended && at.last.code == 0 && at.received == 70000, "R11: a request in parts is served");
    send_long(&flood, flood.len - 1, 1000);
    ok(at.ended && at.last.code == 125, "R11: parts beyond what was announced are refused");
    send_long(&flood, MSG_LONG_MAX + 1ull, 1000);
    ok(at.ended && at.last.code == 125, "R11: so is a request that is too long");
    send_long(&flood, flood.len + 1, 1000);
    ok(!at.ended || at.last.code == 125, "R11: one that ends early is not served");
    CLEAN_BUF struct buf nested = BUF_INIT(256);
    if (msg_long_encode(&nested, &(struct msg_long){.size = 10}) < 0)
        abort();
    send_long(&nested, nested.len, 1000);
    ok(at.ended && at.last.code == 1 && strstr(at.last.problem, "does not serve"),
       "R11: nor one that announces another");
}

static void put(const char *path, const char *text)
{
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static void test_interpreter(void)
{
    const char *dir = tap_folder();
    char path[300], out[64];
    CLEAN_FD int sh = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    ok(sh >= 0 && interpreter_of(sh, out, sizeof(out)) && out[0] == '/' && access(out, F_OK) == 0,
       "R11: the loader of a program is found (%s)", out);
    ok(!interpreter_of(sh, out, 4), "R11: unless its name is too long");
    snprintf(path, sizeof(path), "%s/script", dir);
    put(path, "#! /no/such/shell -e\n");
    ok(interpreter_missing("script", "/nowhere:.", dir, out, sizeof(out)) && strcmp(out, "/no/such/shell") == 0,
       "R11: a script's interpreter is missed (%s)", out);
    snprintf(path, sizeof(path), "%s/second", dir);
    put(path, "#!./script\n");
    ok(interpreter_missing("./second", NULL, dir, out, sizeof(out)) && strcmp(out, "/no/such/shell") == 0,
       "R11: so is that of an interpreter (%s)", out);
    ok(!interpreter_missing("nothing", "/nowhere:.", dir, out, sizeof(out)),
       "R11: a program that is not there has none");
    ok(!interpreter_missing("sh", "/bin", dir, out, sizeof(out)) && !out[0],
       "R11: one whose loader is there misses none");
    put(path, "\177ELF\2\1\1 and no more of it, but for as many bytes as such a header has, which is 64");
    ok(!interpreter_missing("./second", NULL, dir, out, sizeof(out)), "R11: what is no whole program has none");
    unlink(path);
    snprintf(path, sizeof(path), "%s/script", dir);
    unlink(path);
    rmdir(dir);
}

static void test_oom_record(void)
{
    static const char record[] =
        "3,812,5140900,-;Out of memory: Killed process 123 (tail) total-vm:2096kB, anon-rss:4kB\n";
    static const char cgroup[] =
        "3,812,5140900,-;Memory cgroup out of memory: Killed process 123 (tail) total-vm:2kB\n";
    ok(oom_names(record, 123) && oom_names(cgroup, 123), "R15: a process that the kernel ended for want of memory");
    ok(!oom_names(record, 12) && !oom_names(record, 1234) && !oom_names("3,1,2,-;tail invoked oom-killer\n", 123),
       "R15: another process is none");
}

int main(void)
{
    own = getpid();
    test_end_of_socket();
    test_signal();
    test_lost_word();
    test_unread();
    test_long_request();
    test_interpreter();
    test_oom_record();
    return tap_end();
}
