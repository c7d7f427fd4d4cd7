/*
 * The agent: pid 1's main loop. It relays records between the channel's streams and the workers that serve them, reaps every process that
 * ends, and runs the image's services. It parses nothing but frames and its own messages, allocates little, and treats running out of memory as
 * the loss of one stream.
 *
 * Flow control: a record from the host goes to the worker's socket; where that is full it waits here, not consumed, and the stream's
 * window closes. A packet from a worker is read only while the multiplexer takes records for its stream.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "guest/guest.h"
#include "wire/mux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME   "mvm.agent"
#define READ_CHUNK  (256u * 1024)
#define SOCKET_BUF  (512 * 1024)

/* A record that a worker's socket had no room for. */
struct waiting {
    struct waiting *next;
    size_t len;     /* payload */
    uint8_t packet[]; /* channel byte and payload */
};

struct worker {
    struct worker *next;
    uint32_t stream; /* 0 once the stream is gone */
    pid_t pid;       /* 0 once reaped */
    int sock;        /* -1 once closed by the worker */
    bool said_end;   /* MSG_EXIT or MSG_RESULT went by */
    bool host_closed, build;
    uint32_t events; /* epoll events asked for */
    struct waiting *first, **last;
};

static struct {
    bool builder, configured, port_writable;
    uint64_t boot_ns;
    int epoll, port, signals;
    struct mux *mux;
    struct worker *workers;
    struct guest_conf conf;
    uint8_t *chunk;
    uint8_t tag_port, tag_signals;
} agent;

static void send_log(void *data, const char *line);

/* ---- The port ---- */

/* Opens /dev/vportNpM whose name is mvm.agent. */
static int open_port(void)
{
    DIR *d = opendir("/sys/class/virtio-ports");
    if (!d)
        return -errno;
    int fd = -ENOENT;
    for (struct dirent *e; fd < 0 && (e = readdir(d));) {
        char path[300], name[64] = "";
        if (strncmp(e->d_name, "vport", 5) != 0)
            continue;
        snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
        CLEAN_FD int f = open(path, O_RDONLY | O_CLOEXEC);
        if (f < 0 || read(f, name, sizeof(name) - 1) <= 0 || strncmp(name, PORT_NAME "\n", sizeof(PORT_NAME)) != 0)
            continue;
        snprintf(path, sizeof(path), "/dev/%s", e->d_name);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            fd = -errno;
    }
    closedir(d);
    return fd;
}

static void want(int fd, int op, uint32_t events, void *tag)
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
        want(agent.port, EPOLL_CTL_MOD, EPOLLIN | (n ? EPOLLOUT : 0), &agent.tag_port);
    }
}

/* One message about the connection; losing it for want of memory is noticed by the host. */
#define SEND(name, m)                                                                                                 \
    do {                                                                                                              \
        CLEAN_BUF struct buf b_ = BUF_INIT(FRAME_MAX_PAYLOAD);                                                        \
        if (msg_##name##_encode(&b_, m) == 0)                                                                         \
            (void)!mux_send_msg(agent.mux, &b_);                                                                      \
    } while (0)

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
    snprintf(m.role, sizeof(m.role), "%s", agent.builder ? "builder" : "runtime");
    snprintf(m.kernel, sizeof(m.kernel), "%s", u.release);
    SEND(hello, &m);
}

/* ---- Workers ---- */

static struct worker *find_stream(uint32_t stream)
{
    for (struct worker *w = agent.workers; w; w = w->next)
        if (w->stream == stream)
            return w;
    return NULL;
}

static void watch_worker(struct worker *w)
{
    uint32_t events = w->first ? EPOLLOUT : 0;
    if (w->stream && mux_can_send(agent.mux, w->stream))
        events |= EPOLLIN;
    if (w->sock < 0 || events == w->events)
        return;
    want(w->sock, EPOLL_CTL_MOD, events, w);
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
                (void)!mux_send(agent.mux, w->stream, CHAN_MSG, b.data, b.len);
        }
        mux_close(agent.mux, w->stream);
    }
    for (struct worker **p = &agent.workers; *p; p = &(*p)->next) {
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
    worker_main(sock, request, len, &agent.conf, agent.builder);
}

static int on_open(void *data, uint32_t stream, const void *p, size_t n)
{
    if (!agent.configured)
        return -EAGAIN;
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
    w->next = agent.workers;
    agent.workers = w;
    want(w->sock, EPOLL_CTL_ADD, EPOLLIN, w);
    return 0;
}

static int send_packet(int sock, uint8_t channel, const void *p, size_t n)
{
    struct iovec iov[2] = {{&channel, 1}, {(void *)(uintptr_t)p, n}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = n ? 2 : 1};
    return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int on_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    struct worker *w = find_stream(stream);
    int r = -EPIPE;
    if (w && w->sock >= 0 && !w->first)
        r = send_packet(w->sock, channel, p, n);
    if (!w || w->sock < 0 || (r < 0 && r != -EAGAIN && r != -ENOBUFS && !w->first)) {
        mux_consumed(agent.mux, stream, n); /* the worker has ended: what it did not read is lost, as on a pipe */
        return 0;
    }
    if (r == 0) {
        mux_consumed(agent.mux, stream, n);
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
        mux_consumed(agent.mux, w->stream, x->len);
        free(x);
    }
    pass_close(w);
}

static void on_closed(void *data, uint32_t stream)
{
    struct worker *w = find_stream(stream);
    if (w) {
        w->host_closed = true;
        pass_close(w);
    }
}

static void on_reset(void *data, uint32_t stream, const char *reason)
{
    struct worker *w = find_stream(stream);
    if (w)
        end_worker(w); /* forgotten when it is reaped */
}

static void on_writable(void *data, uint32_t stream)
{
    struct worker *w = find_stream(stream);
    if (w)
        watch_worker(w);
}

/* Packets from a worker, while its stream takes them. */
static void on_worker_output(struct worker *w)
{
    while (w->stream && mux_can_send(agent.mux, w->stream)) {
        ssize_t n = recv(w->sock, agent.chunk, FRAME_MAX_PAYLOAD + 1, MSG_DONTWAIT);
        /* A reset is told once, before what the worker sent: it ended without reading all that it got. */
        if (n < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            fd_closep(&w->sock);
            return;
        }
        if (agent.chunk[0] == CHAN_MSG && n > 1 && (agent.chunk[1] == MSG_EXIT || agent.chunk[1] == MSG_RESULT))
            w->said_end = true;
        if (mux_send(agent.mux, w->stream, agent.chunk[0], agent.chunk + 1, (size_t)n - 1) < 0) {
            mux_reset(agent.mux, w->stream, "out of memory in the guest");
            end_worker(w);
            return;
        }
    }
}

static void on_worker_event(struct worker *w, uint32_t events)
{
    if (w->sock < 0)
        return;
    if (events & EPOLLOUT)
        drain_waiting(w);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        on_worker_output(w);
    watch_worker(w);
    forget_if_done(w);
}

/* ---- Children ---- */

static void reap(void)
{
    struct signalfd_siginfo info;
    while (read(agent.signals, &info, sizeof(info)) > 0)
        ;
    pid_t pid;
    int status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (services_reaped(pid, status))
            continue;
        for (struct worker *w = agent.workers; w; w = w->next) {
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
            break;
        }
    }
}

/* ---- Messages about the connection ---- */

static void set_clock(uint64_t wall_ns)
{
    struct timespec ts = {(time_t)(wall_ns / NSEC_PER_SEC), (long)(wall_ns % NSEC_PER_SEC)};
    if (wall_ns && clock_settime(CLOCK_REALTIME, &ts) < 0)
        send_log(NULL, "mvm-init: the clock cannot be set");
}

/* Bytes that the kernel may count on, and a generator that uses them at once. */
static void feed_random(const uint8_t *seed, size_t len)
{
    /* struct rand_pool_info ends in an array without a size. */
    uint32_t room[(sizeof(struct rand_pool_info) + 64) / sizeof(uint32_t)] = {0};
    struct rand_pool_info *pool = (struct rand_pool_info *)(void *)room;
    len = MIN_OF(len, (size_t)64);
    pool->entropy_count = (int)(8 * len);
    pool->buf_size = (int)len;
    CLEAN_FD int fd = len ? open("/dev/urandom", O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    memcpy(pool->buf, seed, len);
    ioctl(fd, RNDADDENTROPY, pool);
    ioctl(fd, RNDRESEEDCRNG);
    explicit_bzero(room, sizeof(room));
}

static void send_log(void *data, const char *line)
{
    struct msg_log m;
    snprintf(m.text, sizeof(m.text), "%s", line);
    SEND(log, &m);
}

static void send_service(void *data, const char *name, const char *state, int code)
{
    struct msg_service m = {.code = (uint64_t)code};
    snprintf(m.name, sizeof(m.name), "%s", name);
    snprintf(m.state, sizeof(m.state), "%s", state);
    SEND(service, &m);
}

static void load_conf(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(1u << 20);
    struct mvm_error err = MVM_ERROR_INIT;
    int r = path_read_file(AT_FDCWD, "/etc/mvm/guest.conf", &b, &err);
    if (r == 0)
        r = conf_parse(&agent.conf, buf_cstr(&b), b.len, &err);
    if (r < 0 && r != -ENOENT)
        send_log(NULL, err.msg);
}

static int on_configure(const void *p, size_t n)
{
    struct msg_configure m = {0};
    struct msg_configured done = {0};
    if (msg_configure_decode(&m, p, n) < 0)
        return -EPROTO;
    set_clock(m.wall_ns);
    feed_random(m.seed, m.seed_len);
    explicit_bzero(m.seed, sizeof(m.seed));
    const char *hostname = agent.conf.hostname ? agent.conf.hostname : m.hostname;
    if (*hostname && sethostname(hostname, strlen(hostname)) < 0)
        send_log(NULL, "mvm-init: the host name cannot be set");
    if (!agent.configured) {
        net_configure(&m, agent.conf.dhcp, done.problem, sizeof(done.problem));
        if (!done.problem[0])
            snprintf(done.address, sizeof(done.address), "%s", m.address);
        if (agent.builder)
            boot_mount_store(done.problem, sizeof(done.problem));
    }
    SEND(configured, &done);
    flush();
    agent.configured = true;
    const struct service_ops ops = {.log = send_log, .state = send_service};
    services_start(&agent.conf, &ops, agent.epoll);
    return 0;
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
        boot_power_off();
    case MSG_CLOCK:
        if (msg_clock_decode(&clock, p, n) < 0)
            return -EPROTO;
        set_clock(clock.wall_ns);
        return 0;
    case MSG_SEED:
        if (msg_seed_decode(&seed, p, n) < 0)
            return -EPROTO;
        feed_random(seed.seed, seed.len);
        return 0;
    default:
        return 0; /* a newer host may say more */
    }
}

static const struct mux_events mux_events = {
    .msg = on_msg,
    .open = on_open,
    .record = on_record,
    .closed = on_closed,
    .reset = on_reset,
    .writable = on_writable,
};

/* ---- Connection ---- */

static void connect_port(void)
{
    while (!agent.mux && !(agent.mux = mux_new(false, &mux_events, NULL)))
        sleep(1); /* no memory at all: only waiting helps */
    send_hello();
}

/* The connection is beyond repair: say why, end what it served, begin anew. */
static void reconnect(void)
{
    flush();
    for (struct worker *w = agent.workers; w; w = w->next)
        end_worker(w);
    mux_free(agent.mux);
    agent.mux = NULL;
    connect_port();
}

static void on_port_input(void)
{
    ssize_t n = read(agent.port, agent.chunk, READ_CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        return; /* no host at the other end; it comes back or the VM ends */
    if (mux_input(agent.mux, agent.chunk, (size_t)n) < 0)
        reconnect();
}

static void begin(bool builder, uint64_t boot_ns)
{
    agent.builder = builder;
    agent.boot_ns = boot_ns;
    boot_early_mounts();
    agent.chunk = malloc(READ_CHUNK);
    agent.epoll = epoll_create1(EPOLL_CLOEXEC);
    agent.port = open_port();
    if (agent.port < 0 || !agent.chunk) {
        boot_log("no channel to the host (virtio-serial port " PORT_NAME ")");
        boot_power_off();
    }
    connect_port();
    want(agent.port, EPOLL_CTL_ADD, EPOLLIN, &agent.tag_port);
    flush();
    /* Everything else comes after the hello: the host answers meanwhile. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    agent.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    want(agent.signals, EPOLL_CTL_ADD, EPOLLIN, &agent.tag_signals);
    boot_late_mounts();
    CLEAN_FD int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (oom >= 0)
        (void)!fd_write_all(oom, "-1000", 5);
    load_conf();
}

static void dispatch(const struct epoll_event *e)
{
    if (e->data.ptr == &agent.tag_port) {
        if (e->events & EPOLLIN)
            on_port_input();
    } else if (e->data.ptr == &agent.tag_signals) {
        reap();
    } else if (!services_event(e->data.ptr)) {
        for (struct worker *w = agent.workers; w; w = w->next) {
            if (w == e->data.ptr) {
                on_worker_event(w, e->events);
                break;
            }
        }
    }
}

void agent_run(bool builder, uint64_t boot_ns)
{
    begin(builder, boot_ns);
    for (;;) {
        struct epoll_event events[16];
        int n = epoll_wait(agent.epoll, events, ARRAY_SIZE(events), -1);
        for (int i = 0; i < n; i++)
            dispatch(&events[i]);
        flush();
        /* What the flush made room for. */
        for (struct worker *w = agent.workers; w; w = w->next)
            watch_worker(w);
    }
}
