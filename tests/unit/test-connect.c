/*
 * The agent's connections (guest/connect.h) without a guest: a client's multiplexer, the agent's, and services on this
 * machine's loopback.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/accept_queue.h"
#include "guest/connect.h"
#include "guest/listeners.h"
#include "tap.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The patience of connections that wait is over as soon as it begins. */
static bool impatient;
uint64_t __real_clock_deadline(int64_t ms);
uint64_t __wrap_clock_deadline(int64_t ms);
uint64_t __wrap_clock_deadline(int64_t ms)
{
    return impatient ? 1 : __real_clock_deadline(ms);
}

static struct {
    struct mux *client, *agent;
    int epoll;
    bool hold; /* the client does not consume */
    size_t held;
    struct buf got;
    unsigned records, closed, resets;
    char reason[1025];
} at = {.got = BUF_INIT(4u << 20)};

static int on_open(void *data, uint32_t stream, const void *p, size_t n)
{
    return connect_open(stream, p, n);
}

static int agent_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    return connect_record(stream, p, n);
}

static void agent_closed(void *data, uint32_t stream)
{
    (void)connect_closed(stream);
}

static void agent_reset(void *data, uint32_t stream, const char *reason)
{
    (void)connect_reset(stream);
}

static void agent_writable(void *data, uint32_t stream)
{
    (void)connect_writable(stream);
}

static int on_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    at.records++;
    if (at.hold)
        at.held += n;
    else
        mux_consumed(at.client, stream, n);
    return buf_append(&at.got, p, n);
}

static void on_closed(void *data, uint32_t stream)
{
    at.closed++;
}

static void on_reset(void *data, uint32_t stream, const char *reason)
{
    at.resets++;
    snprintf(at.reason, sizeof(at.reason), "%s", reason);
}

static const struct mux_events agent_events = {
    .open = on_open, .record = agent_record, .closed = agent_closed, .reset = agent_reset, .writable = agent_writable};
static const struct mux_events client_events = {.record = on_record, .closed = on_closed, .reset = on_reset};

static bool carry(struct mux *from, struct mux *to)
{
    const uint8_t *p;
    size_t n, all = 0;
    for (; (n = mux_output(from, &p)) > 0; all += n) {
        if (mux_input(to, p, n) < 0)
            abort();
        mux_sent(from, n);
    }
    return all;
}

static void round_of_agent(int ms)
{
    struct epoll_event events[8];
    while (carry(at.client, at.agent) || carry(at.agent, at.client))
        connect_watch();
    int n = epoll_wait(at.epoll, events, ARRAY_SIZE(events), ms);
    for (int i = 0; i < n; i++)
        (void)connect_event(events[i].data.ptr, events[i].events);
    while (carry(at.client, at.agent) || carry(at.agent, at.client))
        connect_watch();
}

/* Rounds until the value is there, or 10 s have passed. */
#define UNTIL(condition)                                                                                               \
    ({                                                                                                                 \
        uint64_t deadline_ = clock_deadline(10000);                                                                    \
        while (!(condition) && clock_left_ms(deadline_) > 0)                                                           \
            round_of_agent(10);                                                                                        \
        (condition);                                                                                                   \
    })

static void begin(void)
{
    at.client = mux_new(true, &client_events, NULL);
    at.agent = mux_new(false, &agent_events, NULL);
    at.epoll = epoll_create1(EPOLL_CLOEXEC);
    at.hold = false;
    at.held = 0;
    at.records = at.closed = at.resets = 0;
    buf_clear(&at.got);
    if (!at.client || !at.agent || at.epoll < 0)
        abort();
    connect_init(at.agent, at.epoll);
}

static void end(void)
{
    connect_end_all();
    ok(!connect_busy(), "the agent has no connection left");
    mux_free(at.client);
    mux_free(at.agent);
    close(at.epoll);
}

static uint32_t open_to(uint64_t port, uint64_t protocol, uint64_t window)
{
    const struct msg_connect m = {.port = port, .protocol = protocol, .window = window};
    CLEAN_BUF struct buf b = BUF_INIT(256);
    int64_t stream = msg_connect_encode(&b, &m) < 0 ? -1 : mux_open(at.client, &b);
    if (stream < 0)
        abort();
    mux_set_window(at.client, (uint32_t)stream, window);
    return (uint32_t)stream;
}

/* A service's socket on a free port of that family's loopback; TCP: it listens. */
static int service(int family, int type, uint16_t *ret_port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    if (family == AF_INET6)
        a.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t n = family == AF_INET ? sizeof(a.v4) : sizeof(a.v6);
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, &a.any, n) < 0 || (type == SOCK_STREAM && listen(fd, 8) < 0) ||
        getsockname(fd, &a.any, &n) < 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *ret_port = ntohs(family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    return fd;
}

static void test_tcp(void)
{
    uint16_t port = 0;
    char line[16] = "";
    begin();
    CLEAN_FD int listener = service(AF_INET, SOCK_STREAM, &port);
    uint32_t stream = open_to(port, IPPROTO_TCP, 0);
    ok(mux_send(at.client, stream, CHAN_OUT, "hello", 5) == 0, "a record may follow at once");
    round_of_agent(10);
    CLEAN_FD int served = accept(listener, NULL, NULL);
    round_of_agent(10);
    ok(served >= 0 && recv(served, line, sizeof(line), 0) == 5 && memcmp(line, "hello", 5) == 0,
       "a service on the loopback is reached, and gets the bytes");
    mux_close(at.client, stream);
    round_of_agent(10);
    ok(recv(served, line, sizeof(line), 0) == 0 && mux_has(at.agent, stream), "half a close is half a close");
    ok(send(served, "answer", 6, 0) == 6 && UNTIL(at.got.len == 6) && at.closed == 0,
       "and the service answers behind it");
    fd_closep(&served);
    ok(UNTIL(at.closed == 1) && !connect_busy() && !mux_has(at.client, stream) && at.resets == 0,
       "its end ends the stream");
    end();
}

static void test_refused(void)
{
    uint16_t port = 0;
    begin();
    CLEAN_FD int listener = service(AF_INET, SOCK_STREAM, &port);
    fd_closep(&listener);
    uint64_t before = clock_now();
    open_to(port, IPPROTO_TCP, 0);
    ok(UNTIL(at.resets == 1) && strcmp(at.reason, "Connection refused") == 0 && clock_now() - before < 2 * NSEC_PER_SEC,
       "a port on which nothing listens is refused at once");
    open_to(0, IPPROTO_TCP, 0);
    ok(UNTIL(at.resets == 2), "port 0 is refused");
    open_to(70000, IPPROTO_TCP, 0);
    ok(UNTIL(at.resets == 3), "port 70,000 is refused");
    open_to(port, 1, 0);
    ok(UNTIL(at.resets == 4), "a protocol that is neither TCP nor UDP is refused");
    end();
}

static void test_other_loopback(void)
{
    uint16_t port = 0;
    CLEAN_FD int listener = service(AF_INET6, SOCK_STREAM, &port);
    if (listener < 0)
        return; /* no IPv6 here */
    begin();
    open_to(port, IPPROTO_TCP, 0);
    round_of_agent(10);
    CLEAN_FD int served = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    ok(served >= 0 && at.resets == 0, "::1 is reached where 127.0.0.1 refuses");
    end();
}

static void test_reset(void)
{
    uint16_t port = 0;
    char byte;
    begin();
    CLEAN_FD int listener = service(AF_INET, SOCK_STREAM, &port);
    uint32_t stream = open_to(port, IPPROTO_TCP, 0);
    round_of_agent(10);
    CLEAN_FD int served = accept(listener, NULL, NULL);
    mux_reset(at.client, stream, "the client is gone");
    round_of_agent(10);
    ok(recv(served, &byte, 1, 0) < 0 && errno == ECONNRESET && !connect_busy(), "a reset reaches the service as one");
    open_to(port, IPPROTO_TCP, 0);
    round_of_agent(10);
    fd_closep(&served);
    served = accept(listener, NULL, NULL);
    const struct linger now = {.l_onoff = 1};
    setsockopt(served, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    fd_closep(&served);
    ok(UNTIL(at.resets == 1) && strcmp(at.reason, "Connection reset by peer") == 0, "and the service's the client");
    end();
}

/* The client does not read: what is on its way is the window. */
static void test_windows(void)
{
    static uint8_t bytes[300000];
    uint16_t port = 0;
    size_t sent = 0;
    memset(bytes, 'x', sizeof(bytes));
    begin();
    CLEAN_FD int listener = service(AF_INET, SOCK_STREAM, &port);
    uint32_t stream = open_to(port, IPPROTO_TCP, MUX_LEAST_WINDOW);
    round_of_agent(10);
    CLEAN_FD int served = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    at.hold = true;
    for (int i = 0; i < 50; i++) {
        ssize_t n = sent < sizeof(bytes) ? send(served, bytes + sent, sizeof(bytes) - sent, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t)n : 0;
        round_of_agent(0);
    }
    ok(at.got.len == MUX_LEAST_WINDOW, "a client that does not read gets one window (%zu)", at.got.len);
    at.hold = false;
    mux_consumed(at.client, stream, at.held);
    for (uint64_t deadline = clock_deadline(10000); at.got.len < sizeof(bytes) && clock_left_ms(deadline) > 0;) {
        ssize_t n = sent < sizeof(bytes) ? send(served, bytes + sent, sizeof(bytes) - sent, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t)n : 0;
        round_of_agent(1);
    }
    ok(at.got.len == sizeof(bytes), "and the rest when it reads");
    /* The other way: the service does not read. */
    size_t queued = 0;
    for (int i = 0; i < 2000; i++) {
        if (mux_can_send(at.client, stream) && mux_send(at.client, stream, CHAN_OUT, bytes, 16384) == 0)
            queued += 16384;
        round_of_agent(0);
    }
    size_t taken = 0;
    ok(!mux_can_send(at.client, stream), "a service that does not read stops the client after %zu bytes", queued);
    for (uint64_t deadline = clock_deadline(10000); taken < queued && clock_left_ms(deadline) > 0;) {
        ssize_t n = recv(served, bytes, sizeof(bytes), 0);
        taken += n > 0 ? (size_t)n : 0;
        round_of_agent(n > 0 ? 0 : 1);
    }
    ok(taken == queued, "which loses nothing");
    end();
}

static void test_udp(void)
{
    uint16_t port = 0;
    static uint8_t bytes[65507];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    begin();
    CLEAN_FD int served = service(AF_INET, SOCK_DGRAM, &port);
    uint32_t stream = open_to(port, IPPROTO_UDP, 128u * 1024);
    const struct timeval patience = {.tv_sec = 5};
    setsockopt(served, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ok(mux_send(at.client, stream, CHAN_OUT, "one", 3) == 0 && mux_send(at.client, stream, CHAN_OUT, "three", 5) == 0,
       "(two datagrams)");
    round_of_agent(10);
    ok(recvfrom(served, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &from_len) == 3 &&
           recv(served, bytes, sizeof(bytes), 0) == 5,
       "each record is a datagram");
    int size = 1 << 20;
    setsockopt(served, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    ok(sendto(served, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, from_len) == sizeof(bytes) &&
           UNTIL(at.got.len == sizeof(bytes)) && at.records == 1,
       "each datagram, the largest too, is a record");
    mux_reset(at.client, stream, "idle");
    round_of_agent(10);
    ok(!connect_busy(), "a reset ends the flow");
    fd_closep(&served);
    stream = open_to(port, IPPROTO_UDP, 128u * 1024);
    ok(mux_send(at.client, stream, CHAN_OUT, "two", 3) == 0 && UNTIL(at.resets == 1) &&
           strcmp(at.reason, "Connection refused") == 0,
       "a datagram that nothing takes ends its flow: %s", at.reason);
    end();
}

static void test_udp_other_loopback(void)
{
    uint16_t port = 0;
    char line[16];
    CLEAN_FD int served = service(AF_INET6, SOCK_DGRAM, &port);
    if (served < 0)
        return; /* no IPv6 here */
    begin();
    uint32_t stream = open_to(port, IPPROTO_UDP, 128u * 1024);
    ok(mux_send(at.client, stream, CHAN_OUT, "two", 3) == 0 &&
           UNTIL(recv(served, line, sizeof(line), MSG_DONTWAIT | MSG_PEEK) == 3) && at.resets == 0,
       "a datagram that 127.0.0.1 refuses reaches ::1");
    end();
}

static void test_listeners(void)
{
    static const char tcp[] =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 21 1\n"
        "   1: 0F02000A:1F91 00000000:0000 0A 00000000:00000002 00:00000000 00000000  1000        0 22 1\n"
        "   2: 00000000:0050 00000000:0000 0A 00000000:00000007 00:00000000 00000000  1000        0 22 1\n"
        "   3: 00000000:0050 00000000:0000 0A 00000000:00000005 00:00000000 00000000  1000        0 22 1\n"
        "   4: 0100007F:0051 0202000A:C350 01 00000000:00000001 00:00000000 00000000  1000        0 22 1\n";
    static const char tcp6[] =
        "  sl  local_address\n"
        "   0: 00000000000000000000000001000000:1F92 00000000000000000000000000000000:0000 0A 00000000:00000001\n"
        "   1: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:FFFFFFFF\n";
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    static const struct {
        uint16_t port;
        int v4, v6;
        const char *what;
    } of[] = {{8080, 3, -ENOENT, "127.0.0.1"},
              {8081, -ENOENT, -ENOENT, "the card's address, which is not asked for,"},
              {80, 5, -ENOENT, "all addresses, twice,"},
              {81, -ENOENT, -ENOENT, "nothing, of a connection's port,"},
              {8082, -ENOENT, 1, "::1"},
              {443, INT32_MAX, INT32_MAX, "all addresses of both"}};
    for (size_t i = 0; i < ARRAY_SIZE(of); i++) {
        v4.sin_port = v6.sin6_port = htons(of[i].port);
        ok(listeners_queue(tcp, tcp6, (const struct sockaddr *)&v4) == of[i].v4 &&
               listeners_queue(tcp, tcp6, (const struct sockaddr *)&v6) == of[i].v6,
           "the queue of what listens on %s is found", of[i].what);
    }
    ok(listeners_queue("", "garbage\n 0: zz:1", (const struct sockaddr *)&v4) == -ENOENT, "garbage is no listener");
}

/* How many connections wait to be accepted there. */
static int queued(uint16_t port)
{
    const struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return listeners_queue_now((const struct sockaddr *)&a);
}

/* Takes n connections, each of which says the next number. */
static bool accept_in_order(int listener, int n)
{
    uint64_t deadline = clock_deadline(10000);
    for (int i = 0; i < n && clock_left_ms(deadline) > 0;) {
        uint8_t byte;
        CLEAN_FD int served = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        round_of_agent(served < 0 ? 10 : 0);
        if (served < 0)
            continue;
        while (recv(served, &byte, 1, 0) < 0 && errno == EAGAIN && clock_left_ms(deadline) > 0)
            round_of_agent(1);
        if (byte != i++)
            return false;
    }
    return clock_left_ms(deadline) > 0;
}

static void test_accept_queue(void)
{
    enum { MANY = 3 * ACCEPT_QUEUE };
    uint16_t port = 0, other_port = 0;
    begin();
    CLEAN_FD int listener = service(AF_INET, SOCK_STREAM, &port);
    CLEAN_FD int other = service(AF_INET, SOCK_STREAM, &other_port);
    if (fd_set_nonblock(listener, true) < 0)
        abort();
    for (uint8_t i = 0; i < MANY; i++)
        if (mux_send(at.client, open_to(port, IPPROTO_TCP, 0), CHAN_OUT, &i, 1) < 0)
            abort();
    (void)UNTIL(queued(port) >= ACCEPT_QUEUE);
    for (int i = 0; i < 5; i++)
        round_of_agent(20);
    ok(queued(port) == ACCEPT_QUEUE, "%d of %d connections wait in a queue that would overflow", queued(port), MANY);
    open_to(other_port, IPPROTO_TCP, 0);
    ok(UNTIL(queued(other_port) == 1), "a connection to another service waits for none of them");
    ok(accept_in_order(listener, MANY), "all reach the service when it accepts, in the order in which they came");
    impatient = true;
    for (int i = 0; i < ACCEPT_QUEUE + 2; i++)
        open_to(port, IPPROTO_TCP, 0);
    round_of_agent(10);
    impatient = false;
    ok(UNTIL(queued(port) == ACCEPT_QUEUE + 2), "a service that accepts nothing for long gets the connection anyway");
    uint32_t waiting = open_to(port, IPPROTO_TCP, 0);
    round_of_agent(10);
    fd_closep(&listener);
    unsigned before = at.resets;
    mux_close(at.client, waiting);
    ok(UNTIL(at.resets == before + ACCEPT_QUEUE + 3),
       "a connection that waits is refused when the service listens no longer: %s", at.reason);
    end();
}

int main(void)
{
    test_listeners();
    test_accept_queue();
    test_tcp();
    test_refused();
    test_other_loopback();
    test_reset();
    test_windows();
    test_udp();
    test_udp_other_loopback();
    buf_done(&at.got);
    return tap_end();
}
