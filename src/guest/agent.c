/*
 * The agent: pid 1's main loop. It moves frames between the channel and what serves its streams (streams.c), reaps
 * every process that ends, and runs the image's services (service.c). It parses nothing but frames and its own
 * messages, allocates little, and treats running out of memory as the loss of one stream.
 */
#include "guest/agent.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "guest/boot.h"
#include "guest/conf.h"
#include "guest/count.h"
#include "guest/ending.h"
#include "guest/identity.h"
#include "guest/net.h"
#include "guest/oom.h"
#include "guest/port.h"
#include "guest/quiesce.h"
#include "guest/relay.h"
#include "guest/service.h"
#include "guest/store_disk.h"
#include "guest/streams.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME  "mvm.agent"
#define READ_CHUNK (256u * 1024)
/* Who asks for the end, by exec, is to be heard to the end first; then the host has this long to take what was said. */
#define END_GRACE_MS  250
#define LAST_WORDS_MS 1000

static struct {
    bool builder, configured, port_writable, counting;
    bool copied; /* a copy of a guest that was held: its connection is another */
    struct msg_configured done;
    uint64_t window; /* see mux_set_send_window */
    uint64_t boot_ns;
    uint64_t ends_at; /* the guest has asked for its end, which comes then at the latest; 0: it has not */
    enum ending ending;
    int epoll, port, signals;
    struct mux *mux;
    struct guest_conf conf;
    struct count count;
    uint8_t *chunk;
    uint8_t tag_port, tag_signals;
} agent;

/* ---- The port ---- */

static void watch_fd(int fd, int op, uint32_t events, void *tag)
{
    struct epoll_event e = {.events = events, .data.ptr = tag};
    epoll_ctl(agent.epoll, op, fd, &e);
}

/* Writes what the port takes now, and asks to be told when it takes more. */
static void flush(void)
{
    const uint8_t *p;
    size_t n;
    while ((n = mux_output(agent.mux, &p)) > 0) {
        ssize_t w = write(agent.port, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            break;
        mux_sent(agent.mux, (size_t)w);
    }
    if ((n > 0) != agent.port_writable) {
        agent.port_writable = n > 0;
        watch_fd(agent.port, EPOLL_CTL_MOD, EPOLLIN | (n ? EPOLLOUT : 0), &agent.tag_port);
    }
}

/* One message about the connection; losing it for want of memory is noticed by the host. */
#define SEND(name, m)                                                                                                  \
    do {                                                                                                               \
        CLEAN_BUF struct buf b_ = BUF_INIT(FRAME_MAX_PAYLOAD);                                                         \
        if (msg_##name##_encode(&b_, m) == 0)                                                                          \
            (void)!mux_send_msg(agent.mux, &b_);                                                                       \
    } while (0)

/* A message without fields. */
static int send_bare(uint8_t type)
{
    CLEAN_BUF struct buf b = BUF_INIT(64);
    int r = msg_begin(&b, type);
    return r < 0 ? r : mux_send_msg(agent.mux, &b);
}

static void send_hello(void)
{
    struct utsname u;
    uname(&u);
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    struct msg_hello m = {
        .protocol = MVM_PROTOCOL_VERSION,
        .boot_ns = agent.boot_ns,
        .ready_ns = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec,
    };
    snprintf(m.role, sizeof(m.role), "%s", vm_role_name(agent.builder ? VM_ROLE_BUILDER : VM_ROLE_RUNTIME));
    snprintf(m.kernel, sizeof(m.kernel), "%s", u.release);
    SEND(hello, &m);
}

/* ---- Children ---- */

static void on_signals(void)
{
    struct signalfd_siginfo info;
    while (read(agent.signals, &info, sizeof(info)) > 0) {
        if (info.ssi_signo == SIGCHLD || agent.ends_at)
            continue;
        agent.ending = ending_of_signal((int)info.ssi_signo);
        agent.ends_at = clock_deadline(END_GRACE_MS);
    }
    pid_t pid;
    int status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!services_reaped(pid, status))
            relay_reaped(pid, status);
    }
}

/* ---- The end ---- */

/* Tells the host, which takes an end without a word for a panic, and ends the guest. */
static void end_guest(enum ending how) __attribute__((noreturn));
static void end_guest(enum ending how)
{
    const struct msg_ending m = {.how = how};
    const uint8_t *p;
    uint64_t deadline = clock_deadline(LAST_WORDS_MS);
    mux_undrain(agent.mux);
    SEND(ending, &m);
    do {
        struct pollfd room = {.fd = agent.port, .events = POLLOUT};
        (void)!poll(&room, 1, clock_left_ms(deadline));
        flush();
    } while (mux_output(agent.mux, &p) > 0 && clock_left_ms(deadline) > 0);
    boot_power_off();
}

/* ---- Messages about the connection ---- */

static void send_log(void *data, const char *line)
{
    struct msg_log m;
    snprintf(m.text, sizeof(m.text), "%s", line);
    SEND(log, &m);
}

static void set_clock(uint64_t wall_ns)
{
    if (identity_set_clock(wall_ns) < 0)
        send_log(NULL, "mvm-init: the clock cannot be set");
}

static void send_service(void *data, const char *name, const char *state, int code)
{
    struct msg_service m = {.code = (uint64_t)code};
    snprintf(m.name, sizeof(m.name), "%s", name);
    snprintf(m.state, sizeof(m.state), "%s", state);
    SEND(service, &m);
}

static void send_services(void *data, const struct msg_services *m)
{
    SEND(services, m);
}

static void load_conf(void)
{
    const struct service_ops ops = {.log = send_log, .state = send_service, .all = send_services};
    CLEAN_BUF struct buf b = BUF_INIT(1u << 20);
    struct mvm_error err = MVM_ERROR_INIT;
    int r = path_read_file(AT_FDCWD, "/etc/mvm/guest.conf", &b, &err);
    if (r == 0)
        r = conf_parse(&agent.conf, buf_cstr(&b), b.len, &err);
    if (r < 0 && r != -ENOENT)
        send_log(NULL, err.msg);
    services_prepare(&ops, r < 0 && r != -ENOENT ? err.msg : "");
}

static const struct count_log count_log = {.line = send_log};

static int on_configure(const void *p, size_t n)
{
    struct msg_configure m = {0};
    struct msg_configured done = {0};
    if (agent.counting)
        count_note_instructions(&agent.count, "configure");
    if (msg_configure_decode(&m, p, n) < 0)
        return -EPROTO;
    /* Randomness first: restored from a snapshot, the generator is where that of every other VM of it was. */
    int random = identity_feed_random(m.seed, m.seed_len);
    explicit_bzero(m.seed, sizeof(m.seed));
    if (random < 0) {
        boot_log("the random generator cannot be seeded: %s", strerror(-random));
        boot_power_off();
    }
    set_clock(m.wall_ns);
    done.window = agent.window = m.window;
    mux_set_send_window(agent.mux, m.window);
    const char *hostname = agent.conf.hostname ? agent.conf.hostname : m.hostname;
    if (*hostname && sethostname(hostname, strlen(hostname)) < 0)
        send_log(NULL, "mvm-init: the host name cannot be set");
    agent.copied = m.copied && agent.configured;
    if (!agent.configured || agent.copied) {
        if (identity_set_machine_id(m.machine_id, agent.copied) < 0)
            send_log(NULL, "mvm-init: /etc/machine-id cannot be written");
        /* What the host gives is set again, in case it is another; a copy whose card stays the same keeps its lease. */
        net_configure(&m, agent.conf.dhcp, agent.copied, done.problem, sizeof(done.problem));
        if (!done.problem[0])
            snprintf(done.address, sizeof(done.address), "%s", m.address);
        if (agent.builder)
            store_disk_mount(&m, &done);
    }
    done.services = services_expected(&agent.conf);
    done.slow = services_slow(&agent.conf);
    done.connects = done.moves = true;
    if (agent.copied) { /* the answer goes over the new connection: renew() */
        agent.done = done;
        return 0;
    }
    agent.configured = true;
    if (!agent.counting) {
        SEND(configured, &done);
        flush();
    }
    services_start(&agent.conf, agent.epoll);
    if (agent.counting) { /* the host reads the counts when it hears that the guest is configured */
        count_note_instructions(&agent.count, "services");
        count_report(&agent.count, &count_log);
        SEND(configured, &done);
    }
    if (done.services)
        services_report(true);
    return 0;
}

/* The host is about to copy this guest. A copy must find no half frame on either side of the channel, so that the host
 * sends nothing after this message and we send nothing after the answer. */
static void on_drain(void)
{
    if (send_bare(MSG_DRAINED) == 0)
        mux_drain(agent.mux);
}

static int on_msg(void *data, const void *p, size_t n)
{
    struct msg_reader r;
    struct msg_clock clock = {0};
    struct msg_seed seed = {0};
    if (msg_open(&r, p, n) < 0)
        return -EPROTO;
    switch (r.type) {
    case MSG_CONFIGURE:
        return on_configure(p, n);
    case MSG_POWEROFF:
        end_guest(ENDING_OFF);
    case MSG_DRAIN:
        on_drain();
        return 0;
    case MSG_UNDRAIN:
        mux_undrain(agent.mux);
        return 0;
    case MSG_QUIESCE:
        quiesce_want();
        return 0;
    case MSG_CLOCK:
        if (msg_clock_decode(&clock, p, n) < 0)
            return -EPROTO;
        set_clock(clock.wall_ns);
        return 0;
    case MSG_SEED:
        if (msg_seed_decode(&seed, p, n) < 0)
            return -EPROTO;
        (void)!identity_feed_random(seed.seed, seed.len);
        return 0;
    default:
        return 0; /* a newer host may say more */
    }
}

static int on_open(void *data, uint32_t stream, const void *p, size_t n)
{
    quiesce_forget();
    return agent.configured ? streams_open(stream, p, n) : -EAGAIN;
}

static const struct mux_events mux_events = {
    .msg = on_msg,
    .open = on_open,
    .record = streams_record,
    .closed = streams_closed,
    .reset = streams_reset,
    .writable = streams_writable,
};

/* ---- Connection ---- */

static void new_connection(void)
{
    while (!agent.mux && !(agent.mux = mux_new(false, &mux_events, NULL)))
        sleep(1); /* no memory at all: only waiting helps */
    mux_set_send_window(agent.mux, agent.window);
    streams_init(agent.mux, agent.epoll, &agent.conf, agent.builder);
}

static void connect_port(void)
{
    new_connection();
    send_hello();
}

static void end_connection(void)
{
    streams_end_all();
    mux_free(agent.mux);
    agent.mux = NULL;
}

/* The connection is beyond repair, which is said, or has ended: end what it served, begin anew. A console's port does
 * not end: where there is no host at its other end, it comes back or the VM ends. */
static void reconnect(bool ended)
{
    if (ended && !port_connect_again(agent.port))
        return;
    if (ended)
        watch_fd(agent.port, EPOLL_CTL_ADD, EPOLLIN, &agent.tag_port);
    else
        flush();
    agent.port_writable &= !ended;
    end_connection();
    connect_port();
}

/* This guest has become a copy, with a host that knows none of its streams: what they served ends, as when a client
 * goes away. */
static void renew(void)
{
    end_connection();
    new_connection();
    SEND(configured, &agent.done);
    if (agent.done.services)
        services_report(true);
    agent.copied = false;
}

static void on_port_input(void)
{
    ssize_t n = read(agent.port, agent.chunk, READ_CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        reconnect(true);
    else if (mux_input(agent.mux, agent.chunk, (size_t)n) < 0)
        reconnect(false);
    else if (agent.copied)
        renew();
}

static void begin(bool builder, uint64_t boot_ns)
{
    agent.builder = builder;
    agent.boot_ns = boot_ns;
    count_note_instructions(&agent.count, "agent");
    agent.counting = count_wanted();
    agent.chunk = malloc(READ_CHUNK);
    agent.epoll = epoll_create1(EPOLL_CLOEXEC);
    agent.port = port_open(PORT_NAME);
    if (agent.port < 0 || !agent.chunk) {
        boot_log("no channel to the host (virtio-serial port " PORT_NAME " or virtio socket)");
        boot_power_off();
    }
    watch_fd(agent.port, EPOLL_CTL_ADD, EPOLLIN, &agent.tag_port);
    /*
     * The hello comes last, when all that can be done without knowing which VM this is has been done: the host may take
     * a snapshot of the guest when it hears it, and what comes after it is done again by each VM restored from that.
     */
    agent.signals = ending_watch();
    watch_fd(agent.signals, EPOLL_CTL_ADD, EPOLLIN, &agent.tag_signals);
    boot_late_mounts();
    boot_stop_pit();
    /* Software emulation keeps the code that it has translated by its address in the guest: where that changes, it does
     * so again each time a program is started, which doubles the time that Nix takes to start. */
    if (builder && boot_emulated())
        boot_fix_addresses();
    oom_spare_this();
    net_prepare();
    if (builder)
        store_disk_prepare();
    bool has_id = identity_prepare();
    count_note_instructions(&agent.count, "hello");
    connect_port();
    if (agent.counting) {
        count_report(&agent.count, &count_log);
        count_report_kernel(&count_log);
    }
    if (!has_id)
        send_log(NULL, "mvm-init: /etc/machine-id cannot be made");
    load_conf();
    flush();
}

static void dispatch(const struct epoll_event *e)
{
    if (e->data.ptr == &agent.tag_port) {
        if (e->events & EPOLLIN)
            on_port_input();
    } else if (e->data.ptr == &agent.tag_signals) {
        on_signals();
    } else if (!services_event(e->data.ptr)) {
        streams_event(e->data.ptr, e->events);
    }
}

void agent_run(bool builder, uint64_t boot_ns)
{
    begin(builder, boot_ns);
    for (;;) {
        struct epoll_event events[16];
        int n = epoll_wait(agent.epoll, events, ARRAY_SIZE(events), clock_left_ms(agent.ends_at));
        for (int i = 0; i < n; i++)
            dispatch(&events[i]);
        if (quiesce_reached(streams_busy()))
            (void)!send_bare(MSG_QUIESCED);
        flush();
        streams_watch(); /* what the flush made room for, and builds whose turn has come */
        flush();
        if (agent.ends_at && (!relay_busy() || clock_left_ms(agent.ends_at) == 0))
            end_guest(agent.ending);
    }
}
