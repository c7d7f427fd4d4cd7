/*
 * What a supervisor publishes (supervisor/publish.h and below), from this host's sockets to a stand-in for the guest's
 * agent: port 7 gives back what it gets, port 9 keeps it without end, nothing listens on others.
 */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "supervisor/frame_cost.h"
#include "supervisor/guest_streams.h"
#include "supervisor/publish.h"
#include "supervisor/publish_datagrams.h"
#include "supervisor/publish_stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    uv_loop_t loop;
    struct router *router;
    struct publish *publish;
    struct mux *agent;
    uint8_t kinds[65536];
    unsigned opened, open, most, kept, changed;
    char removed[108];
} at;

/* ---- The guest's agent ---- */

static int agent_open(void *data, uint32_t stream, const void *p, size_t n)
{
    struct msg_connect m = {0};
    if (msg_connect_decode(&m, p, n) < 0 || (m.port != 7 && m.port != 9))
        return -ECONNREFUSED;
    mux_set_window(at.agent, stream, m.window);
    at.kinds[stream] = (uint8_t)m.port;
    at.opened++;
    at.open++;
    at.most = MAX_OF(at.most, at.open);
    return 0;
}

static int agent_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    if (at.kinds[stream] == 9) {
        at.kept += (unsigned)n;
        return 0;
    }
    mux_consumed(at.agent, stream, n);
    return mux_send(at.agent, stream, channel, p, n) == -EPIPE ? -EPROTO : 0;
}

static void agent_closed(void *data, uint32_t stream)
{
    at.open--;
    mux_close(at.agent, stream);
}

static void agent_reset(void *data, uint32_t stream, const char *why)
{
    at.open--;
}

static const struct mux_events agent_events = {
    .open = agent_open, .record = agent_record, .closed = agent_closed, .reset = agent_reset};

/* ---- The supervisor ---- */

static void to_guest(void *data, const void *p, size_t n)
{
    if (mux_input(at.agent, p, n) < 0)
        abort();
}

static void to_client(void *data, void *client, const void *p, size_t n)
{
    if (!publish_is(at.publish, client))
        abort();
    publish_input(at.publish, p, n);
}

static int on_message(void *data, const void *p, size_t n)
{
    return 0;
}

static bool local(void *data, void *client, uint32_t stream, const void *p, size_t n)
{
    return false;
}

static const struct router_ops router_ops = {to_guest, to_client, on_message, local};

static void on_changed(void *owner)
{
    at.changed++;
}

static void on_remove(void *owner, const char *path)
{
    snprintf(at.removed, sizeof(at.removed), "%s", path);
    unlink(path);
}

static const struct publish_ops publish_ops = {.changed = on_changed, .remove = on_remove};

/* A round of the loop, and what the agent says after it. */
static void round_of_loop(void)
{
    static uint8_t copy[1 << 20];
    uv_run(&at.loop, UV_RUN_NOWAIT);
    const uint8_t *p;
    for (size_t n; (n = mux_output(at.agent, &p)) > 0;) {
        const char *why;
        memcpy(copy, p, n);
        mux_sent(at.agent, n);
        if (router_from_guest(at.router, copy, n, &why) != (ssize_t)n)
            abort();
    }
    uv_run(&at.loop, UV_RUN_NOWAIT);
}

#define UNTIL(condition)                                                                                               \
    ({                                                                                                                 \
        uint64_t deadline_ = clock_deadline(10000);                                                                    \
        while (!(condition) && clock_left_ms(deadline_) > 0) {                                                         \
            round_of_loop();                                                                                           \
            (void)!poll(NULL, 0, 1);                                                                                   \
        }                                                                                                              \
        (condition);                                                                                                   \
    })

static void rounds(unsigned n)
{
    while (n--)
        round_of_loop();
}

static void begin(void)
{
    at.opened = at.open = at.most = at.kept = at.changed = 0;
    uv_loop_init(&at.loop);
    at.router = router_new(&router_ops, NULL);
    at.agent = mux_new(false, &agent_events, NULL);
    at.publish = publish_new(&at.loop, at.router, &publish_ops, NULL);
    if (!at.router || !at.agent || !at.publish)
        abort();
    router_set_small_windows(at.router, true);
    router_set_guest(at.router, true, "");
    publish_guest(at.publish, true);
}

/* ---- A client of the control socket ---- */

/* Binds a socket on the loopback; its port. */
static int bound(int type, uint16_t *ret)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) < 0 || (type == SOCK_STREAM && listen(fd, 4096) < 0) ||
        getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        abort();
    *ret = ntohs(a.sin_port);
    return fd;
}

static const char *answer;
static const struct msg_ports *asked;

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *b)
{
    static char byte[16];
    *b = uv_buf_init(byte, sizeof(byte));
}

static void on_read(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    if (n > 0)
        answer = publish_serve(at.publish, asked, st, asked);
}

/* Sends the socket as a command does, and has the request served. */
static const char *request(const struct msg_ports *m, int fd)
{
    int pair[2];
    uv_pipe_t *pipe = calloc(1, sizeof(*pipe));
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (char[]){'x'}, .iov_len = 1};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        h.msg_control = &control;
        h.msg_controllen = sizeof(control);
        *CMSG_FIRSTHDR(&h) =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&h)), &fd, sizeof(int));
    }
    asked = m;
    answer = "no answer";
    if (!pipe || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || uv_pipe_init(&at.loop, pipe, 1) < 0 ||
        uv_pipe_open(pipe, pair[1]) < 0 || uv_read_start((uv_stream_t *)pipe, on_alloc, on_read) < 0 ||
        sendmsg(pair[0], &h, 0) != 1)
        abort();
    rounds(3);
    close(pair[0]);
    uv_close((uv_handle_t *)pipe, (uv_close_cb)free);
    rounds(2);
    return answer;
}

static char published_text[64]; /* of the last one */

static uint16_t publish_port(int type, unsigned guest, bool tied)
{
    uint16_t port = 0;
    CLEAN_FD int fd = bound(type, &port);
    snprintf(published_text, sizeof(published_text), "127.0.0.1:%u:%u/%s", port, guest,
             type == SOCK_STREAM ? "tcp" : "udp");
    char *list[] = {published_text, NULL};
    const struct msg_ports m = {.publish = {.v = list, .n = 1}, .tied = tied};
    const char *why = request(&m, fd);
    return why ? 0 : port;
}

static const char *unpublish(char *text)
{
    char *list[] = {text, NULL};
    const struct msg_ports m = {.unpublish = {.v = list, .n = 1}};
    return request(&m, -1);
}

static int connected(int type, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || fd_set_nonblock(fd, true) < 0)
        abort();
    return fd;
}

static ssize_t got(int fd, void *p, size_t n)
{
    for (uint64_t deadline = clock_deadline(10000);;) {
        ssize_t r = recv(fd, p, n, 0);
        if (r >= 0 || errno != EAGAIN || clock_left_ms(deadline) == 0)
            return r < 0 ? -errno : r;
        round_of_loop();
        (void)!poll(NULL, 0, 1);
    }
}

/* ---- Tests ---- */

static void test_connections(void)
{
    char line[16];
    uint16_t echo = publish_port(SOCK_STREAM, 7, false), refused = publish_port(SOCK_STREAM, 80, false);
    ok(echo && refused && at.changed == 2, "sockets that come with a request are published");
    CLEAN_FD int fd = connected(SOCK_STREAM, echo);
    ok(send(fd, "hello", 5, 0) == 5 && got(fd, line, sizeof(line)) == 5 && memcmp(line, "hello", 5) == 0,
       "a connection carries bytes both ways");
    shutdown(fd, SHUT_WR);
    ok(got(fd, line, sizeof(line)) == 0, "its half close comes back as the other half");
    fd_closep(&fd);
    ok(UNTIL(at.open == 0 && !router_is_used(at.router)), "its end leaves no stream");
    fd = connected(SOCK_STREAM, refused);
    ok(got(fd, line, sizeof(line)) == -ECONNRESET, "what the guest refuses is reset");
    fd_closep(&fd);
    fd = connected(SOCK_STREAM, echo);
    const struct linger now = {.l_onoff = 1};
    (void)UNTIL(at.open == 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    fd_closep(&fd);
    ok(UNTIL(at.open == 0 && !router_is_used(at.router)), "a client's reset reaches the guest");
}

static void test_refusals(void)
{
    char text[PORTS_MAX_TEXT], nothing[] = "127.0.0.1:1:7/tcp", bad[] = "70000:7";
    char *twice[] = {published_text, NULL}, *wrong[] = {bad, NULL}, *udp[] = {nothing, NULL};
    uint16_t port = publish_port(SOCK_STREAM, 7, false);
    CLEAN_FD int fd = bound(SOCK_DGRAM, &(uint16_t){0});
    publish_format(at.publish, text, sizeof(text));
    ok(strstr(text, published_text), "what is published is told");
    ok(request(&(struct msg_ports){.publish = {twice, 1}}, fd), "a port that is published already is refused");
    ok(request(&(struct msg_ports){.publish = {wrong, 1}}, fd), "port 70,000 is refused");
    ok(request(&(struct msg_ports){.publish = {udp, 1}}, fd), "a socket of another kind than its port is refused");
    ok(request(&(struct msg_ports){.publish = {udp, 1}}, -1), "a port without its socket is refused");
    ok(unpublish(nothing) != NULL, "a port that is not published cannot be taken back");
    CLEAN_FD int client = connected(SOCK_STREAM, port);
    (void)UNTIL(at.open == 1);
    ok(unpublish(published_text) == NULL && got(client, text, 1) == -ECONNRESET,
       "a port that is taken back resets its connections");
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CLEAN_FD int again = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(connect(again, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == ECONNREFUSED, "and takes no more");
    port = publish_port(SOCK_STREAM, 7, true);
    publish_untie(at.publish, asked);
    rounds(3);
    a.sin_port = htons(port);
    fd_closep(&again);
    again = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(connect(again, (struct sockaddr *)&a, sizeof(a)) < 0, "a port that is tied goes with its client");
}

/* 300 connections that are never ended by their client. */
static void test_limit(void)
{
    enum { MANY = 300 };
    static int fds[MANY];
    static char bytes[65536];
    uint16_t keep = publish_port(SOCK_STREAM, 9, false);
    unsigned before = at.opened;
    at.most = 0;
    for (unsigned i = 0; i < MANY; i++) {
        fds[i] = connected(SOCK_STREAM, keep);
        rounds(1);
    }
    ok(UNTIL(at.open == GUEST_STREAMS) && at.most == GUEST_STREAMS, "of 300 connections 200 are in the guest at once");
    for (unsigned i = 0; i < MANY / 2; i++)
        close(fds[i]);
    ok(UNTIL(at.opened >= before + MANY), "those that waited follow when others end");
    for (unsigned k = 0; k < 40; k++) {
        for (unsigned i = MANY / 2; i < MANY; i++)
            (void)!send(fds[i], bytes, sizeof(bytes), MSG_NOSIGNAL);
        rounds(2);
    }
    ok(at.kept > GUEST_WINDOWS / 2 && at.kept <= GUEST_WINDOWS, "their windows are 8 MiB at most: %u bytes came",
       at.kept);
    for (unsigned i = MANY / 2; i < MANY; i++)
        close(fds[i]);
    (void)unpublish(published_text);
    ok(UNTIL(at.open == 0 && !router_is_used(at.router)), "nothing of them is left");
}

static void test_datagrams(void)
{
    char line[16];
    unsigned before = at.opened;
    uint16_t port = publish_port(SOCK_DGRAM, 7, false);
    CLEAN_FD int a = connected(SOCK_DGRAM, port);
    CLEAN_FD int b = connected(SOCK_DGRAM, port);
    ok(send(a, "one", 3, 0) == 3 && send(a, "three", 5, 0) == 5 && send(b, "to b", 4, 0) == 4, "(three datagrams)");
    ok(got(a, line, sizeof(line)) == 3 && got(a, line, sizeof(line)) == 5 && memcmp(line, "three", 5) == 0 &&
           got(b, line, sizeof(line)) == 4,
       "datagrams come back whole, to who sent them");
    ok(at.opened == before + 2, "each peer has one stream");
    unsigned most = 0;
    for (unsigned i = 0; i < 2 * FLOWS_MAX; i++) {
        CLEAN_FD int c = connected(SOCK_DGRAM, port);
        (void)!send(c, "x", 1, 0);
        rounds(4);
        most = MAX_OF(most, at.open);
    }
    ok(most <= FLOWS_MAX && at.opened > before + FLOWS_MAX, "of more peers than that the idlest goes: %u at once",
       most);
    ok(unpublish(published_text) == NULL && UNTIL(at.open == 0 && !router_is_used(at.router)),
       "they end with their port");
}

/* No guest yet, and no more. */
static void test_waiting(void)
{
    char line[16];
    uint16_t port = publish_port(SOCK_STREAM, 7, false);
    router_set_guest(at.router, false, "not yet");
    CLEAN_FD int fd = connected(SOCK_STREAM, port);
    rounds(5);
    ok(send(fd, "hello", 5, 0) == 5 && recv(fd, line, sizeof(line), 0) < 0 && errno == EAGAIN,
       "a connection that comes before the guest is ready waits");
    mux_free(at.agent);
    at.agent = mux_new(false, &agent_events, NULL);
    router_set_guest(at.router, true, "");
    publish_guest(at.publish, true);
    ok(got(fd, line, sizeof(line)) == 5, "and is served when it is");
    router_set_guest(at.router, false, "the vm is gone");
    publish_guest(at.publish, false);
    ok(got(fd, line, sizeof(line)) == -ECONNRESET, "a guest that has gone resets its connections");
    fd_closep(&fd);
    fd = connected(SOCK_STREAM, port);
    ok(got(fd, line, sizeof(line)) == -ECONNRESET, "and those that come later");
}

static void test_room(void)
{
    struct guest_streams s = {0};
    struct published p = {0};
    struct datagrams d = {0};
    struct frame_cost cost = {0};
    ok(guest_streams_init(&s, &at.loop, at.router) == 0 && guest_streams_room(&s, MUX_LEAST_WINDOW) == 0,
       "without a guest there is no room");
    router_set_guest(at.router, true, "");
    ok(guest_streams_room(&s, MUX_LEAST_WINDOW) == 256u * 1024, "the first stream gets a large window");
    s.n = 100;
    s.windows = 8u * 256 * 1024 + 92 * MUX_LEAST_WINDOW;
    ok(guest_streams_room(&s, MUX_LEAST_WINDOW) == MUX_LEAST_WINDOW, "later ones the least");
    s.n = GUEST_STREAMS;
    ok(guest_streams_room(&s, MUX_LEAST_WINDOW) == 0, "and there are at most 200");
    guest_streams_done(&s);
    frame_cost_charge(&cost, &(struct frame){.type = FRAME_CLOSE}, true);
    frame_cost_charge(&cost, &(struct frame){.type = FRAME_DATA, .len = 8192}, true);
    ok(frame_cost_take(&cost, 4096) == 0 && cost.moved == 4096, "what moves pays for what does not");
    p.closing = true;
    published_reset(&p, "again");
    ok(p.closing && datagrams_init(&d, &at.loop) == 0 && d.handles == 2, "what ends already is left alone");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    begin();
    test_connections();
    test_refusals();
    test_limit();
    test_datagrams();
    test_waiting();
    test_room();
    publish_end(at.publish);
    return tap_end();
}
