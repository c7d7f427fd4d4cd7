/* The protocol's guest side (src/guest/agent.c is the real one) and the main loop. */
#include "testguest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define END_GRACE_TICKS 25

struct mux *channel;

char hostname[65] = "test-guest";
uint64_t seed;

static struct {
    bool configured, copied, resting, ends;
    uint64_t ends_at, window;
    enum ending ending;
    struct msg_configured done;
} agent;

#define SEND(name, m)                                                                                                  \
    do {                                                                                                               \
        CLEAN_BUF struct buf b_ = BUF_INIT(4096);                                                                      \
        if (msg_##name##_encode(&b_, m) == 0)                                                                          \
            (void)!mux_send_msg(channel, &b_);                                                                         \
    } while (0)

static void send_bare(uint8_t type)
{
    CLEAN_BUF struct buf b = BUF_INIT(64);
    if (msg_begin(&b, type) == 0)
        (void)!mux_send_msg(channel, &b);
}

static bool flush(void)
{
    const uint8_t *p;
    bool any = false;
    for (size_t n, gone; (n = mux_output(channel, &p)) > 0 && (gone = port_output(p, n)) > 0; any = true)
        mux_sent(channel, gone);
    return any;
}

/* ---- The end ---- */

void agent_end(enum ending how)
{
    agent.ends = true;
    agent.ending = how;
    agent.ends_at = ticks + END_GRACE_TICKS;
}

static void end_guest(enum ending how) __attribute__((noreturn));
static void end_guest(enum ending how)
{
    const struct msg_ending m = {.how = how};
    mux_undrain(channel);
    SEND(ending, &m);
    while (flush() || !port_is_empty())
        machine_idle(port_has_news);
    machine_reset();
}

/* ---- Messages ---- */

static int on_configure(const void *p, size_t n)
{
    struct msg_configure m = {0};
    if (msg_configure_decode(&m, p, n) < 0)
        return -EPROTO;
    seed = 0;
    for (size_t i = 0; i < m.seed_len; i++)
        seed = seed * 31 + m.seed[i];
    if (m.wall_ns)
        set_wall_clock(m.wall_ns);
    if (m.hostname[0])
        memcpy(hostname, m.hostname, sizeof(hostname));
    agent.window = m.window;
    const bool knows = !cmdline_number("older=");
    /* It has no card whose addresses would have to move. */
    agent.done = (struct msg_configured){.window = m.window, .connects = knows, .moves = knows};
    memcpy(agent.done.address, m.address, sizeof(agent.done.address));
    mux_set_send_window(channel, m.window);
    agent.copied = m.copied && agent.configured;
    agent.configured = true;
    if (!agent.copied)
        SEND(configured, &agent.done);
    return 0;
}

static int on_clock(const void *p, size_t n)
{
    struct msg_clock m = {0};
    if (msg_clock_decode(&m, p, n) < 0)
        return -EPROTO;
    set_wall_clock(m.wall_ns);
    return 0;
}

static int on_msg(void *data, const void *p, size_t n)
{
    struct msg_reader r;
    if (msg_open(&r, p, n) < 0)
        return -EPROTO;
    switch (r.type) {
    case MSG_CONFIGURE:
        return on_configure(p, n);
    case MSG_CLOCK:
        return on_clock(p, n);
    case MSG_POWEROFF:
        end_guest(ENDING_OFF);
    case MSG_DRAIN:
        send_bare(MSG_DRAINED);
        mux_drain(channel);
        return 0;
    case MSG_UNDRAIN:
        mux_undrain(channel);
        return 0;
    case MSG_QUIESCE:
        agent.resting = true;
        return 0;
    default:
        return 0;
    }
}

static int on_open(void *data, uint32_t stream, const void *p, size_t n)
{
    agent.resting = false;
    return agent.configured ? jobs_open(data, stream, p, n) : -EAGAIN;
}

/* ---- The connection ---- */

static void connect(void)
{
    static const struct mux_events events = {
        .msg = on_msg, .open = on_open, .record = jobs_record, .closed = jobs_closed, .reset = jobs_reset};
    jobs_orphan();
    mux_free(channel);
    channel = mux_new(false, &events, NULL);
    if (!channel) {
        say("Kernel panic - not syncing: no memory\n");
        machine_reset();
    }
    mux_set_send_window(channel, agent.window);
}

static void send_hello(void)
{
    const struct msg_hello m = {
        .protocol = MVM_PROTOCOL_VERSION, .role = "runtime", .kernel = "test-guest", .ready_ns = uptime_ms() * 1000000};
    SEND(hello, &m);
}

static void take(const void *p, size_t n)
{
    if (mux_input(channel, p, n) < 0) {
        flush(); /* the reason */
        connect();
        send_hello();
    } else if (agent.copied) { /* whose host knows none of its streams */
        connect();
        SEND(configured, &agent.done);
        agent.copied = false;
    }
}

void guest_main(const void *pvh, const void *zero_page) __attribute__((noreturn));
void guest_main(const void *pvh, const void *zero_page)
{
    machine_begin(pvh, zero_page);
    files_begin();
    if (!port_begin()) {
        say("Kernel panic - not syncing: no way to the host on: %s\n", cmdline);
        machine_reset();
    }
    connect();
    send_hello();
    say("test guest: hello after %llu ms\n", (unsigned long long)uptime_ms());
    for (;;) {
        bool moved = port_input(take);
        if (port_was_reset()) {
            connect();
            send_hello();
        }
        moved |= jobs_run(agent.ends);
        moved |= flush();
        (void)!port_is_empty();
        if (agent.ends && (!jobs_busy() || ticks >= agent.ends_at))
            end_guest(agent.ending);
        if (agent.resting && !jobs_busy()) {
            agent.resting = false;
            send_bare(MSG_QUIESCED);
            moved = true;
        }
        if (!moved)
            machine_idle(port_has_news);
    }
}
