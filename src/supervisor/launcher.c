/*
 * This is the launcher: one process beside each supervisor. It exists because bubblewrap cannot make namespaces under
 * Landlock, and because whoever takes a supervisor over must not be able to start what he likes: an order says no more
 * than where memory and store come from, everything else is run.json's.
 */
#include "supervisor/launcher.h"
#include "base/os.h"
#include "base/path.h"
#include "host/handover.h"
#include "host/os.h"
#include "jail/cgroup.h"
#include "net/resolvers.h"
#include "supervisor/launch_network.h"
#include "supervisor/membership.h"
#include "vmdir/port_spec.h"

#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define ANSWER_MS   15000
#define STOP_MS     1000
#define NETWORK_FDS 2
#define MAX_FDS     6

/* What a VMM takes besides the guest's memory: its heap, page tables, buffers of its network; software
 * emulation keeps at most 1 GiB of translated code. Threads: one for each processor, and 64 that read and write files.
 */
#define OVERHEAD_MIB    512
#define TRANSLATION_MIB 1024
#define THREADS         128

struct order {
    bool share, restore;
    bool remove;           /* the socket store_path: nothing is started, and nothing is answered */
    char store_path[4096]; /* "" for the VM's own */
};

struct answer {
    int r;
    pid_t pid;
    bool control, listens; /* the VMM's pidfd is followed by these of struct vmm_started */
    struct jail_report jail;
    struct mvm_error err;
};

/* ---- The launcher ---- */

/* A store that is not the VM's own is one in the making, of a snapshot. */
static bool is_allowed(const struct runfile *run, const char *store_path)
{
    size_t n = strlen(run->snapshots);
    return !store_path[0] || (run->store_disk[0] && n && strncmp(store_path, run->snapshots, n) == 0 &&
                              store_path[n] == '/' && path_is_safe_relative(store_path + n + 1));
}

/* What the launcher starts. */
struct launch_duty {
    const struct runfile *run;
    const struct vmm_ops *backend;
    struct cgroup_bounds bounds;
    int dir_fd;     /* the VM's folder */
    int network_fd; /* where network processes are ordered */
    int resolv_fd;  /* where the network process asks; -1: nowhere */
    struct membership membership;
};

/* A VMM that runs in a cgroup of its own, which goes when it has ended. Where one follows another, the one before may
 * still be ending. */
#define MAX_BOUNDED 4
struct bounded {
    int pidfd; /* -1: none */
    struct cgroup cgroup;
};

static void bounded_done(struct bounded *b)
{
    cgroup_remove(&b->cgroup);
    fd_closep(&b->pidfd);
}

/* What it writes into files in a tmpfs is memory, too: a saved state beside the VM's folder, the store's disk. */
static uint64_t bytes_in_tmpfs(const struct runfile *run, int dirfd)
{
    struct statfs fs;
    struct stat st;
    uint64_t bytes = fstatfs(dirfd, &fs) == 0 && fs.f_type == TMPFS_MAGIC ? run->memory_mib << 20 : 0;
    if (run->store_disk[0] && statfs(run->store_disk, &fs) == 0 && fs.f_type == TMPFS_MAGIC &&
        stat(run->store_disk, &st) == 0)
        bytes += (uint64_t)st.st_size;
    return bytes;
}

static struct cgroup_bounds bounds_of(const struct runfile *run, int dirfd)
{
    bool emulated = vmm_accel_emulates(&run->accel);
    uint64_t mib = run->memory_mib + OVERHEAD_MIB + (emulated ? TRANSLATION_MIB : 0);
    return (struct cgroup_bounds){
        .memory_bytes = (mib << 20) + bytes_in_tmpfs(run, dirfd),
        .processes = (unsigned)run->vcpus + THREADS,
    };
}

/* With the two ends that come with the order, one for its questions, and one where it hears of its network's members.
 */
static int start_network(struct launch_duty *d, const int fds[static NETWORK_FDS], struct process *ret,
                         struct answer *a)
{
    int pair[2] = {-1, -1}, members = -1;
    int r = os_packet_pair(pair);
    d->resolv_fd = pair[0];
    CLEAN_FD int asks = pair[1];
    r = r < 0 ? mvm_error_errno(&a->err, r, "cannot make a socket")
              : membership_offer(&d->membership, &members, &a->err);
    CLEAN_FD int hears = members;
    const struct network_ends ends = {.frames_fd = fds[0], .report_fd = fds[1], .resolv_fd = asks, .members_fd = hears};
    return r < 0 ? r : launch_network(d->run, &ends, true, ret, &a->jail, &a->err);
}

/* What cannot be answered is of nobody. */
static void launch_networker(struct launch_duty *d)
{
    char order;
    struct answer a = {0};
    CLEAN_PROCESS struct process p = PROCESS_INIT;
    struct handover received = {.data = &order, .size = sizeof(order)};
    int r = handover_receive(d->network_fd, &received);
    fd_closep(&d->resolv_fd);
    if (r == 0 && received.n_fds == NETWORK_FDS)
        a.r = start_network(d, received.fds, &p, &a);
    else
        a.r = mvm_error_errno(&a.err, r < 0 ? r : -EPROTO, "the launcher was given an order that it does not follow");
    for (size_t i = 0; i < received.n_fds; i++)
        close(received.fds[i]);
    a.pid = p.pid;
    const struct handover answer = {.data = &a, .size = sizeof(a), .fds = {p.pidfd}, .n_fds = p.pidfd >= 0};
    if (r < 0 || handover_send(d->network_fd, &answer) < 0)
        fd_closep(&d->network_fd);
    else
        fd_closep(&p.pidfd); /* it is the supervisor's */
    if (p.pidfd < 0)
        p = (struct process)PROCESS_INIT;
}

/* In a cgroup where one can be had, which is *ret_cgroup then. */
static int launch_bounded(const struct launch_duty *d, struct vmm_source *source, const int *ends,
                          struct vmm_started *ret, struct answer *a, struct cgroup *ret_cgroup)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = cgroup_make(ret_cgroup, d->run->name, &d->bounds, &why);
    if (r == 0) {
        source->cgroup_fd = ret_cgroup->fd;
        r = launch_vmm(d->backend, d->run, source, ends, ret, &a->err);
        cgroup_bounds_format(&d->bounds, ret->jail.limits, sizeof(ret->jail.limits));
        if (r != -EXDEV)
            return r;
        why = a->err;
        cgroup_remove(ret_cgroup);
        source->cgroup_fd = 0;
    }
    r = launch_vmm(d->backend, d->run, source, ends, ret, &a->err);
    snprintf(ret->jail.limits, sizeof(ret->jail.limits), "none: %.120s", why.msg);
    return r;
}

static void carry_out(const struct launch_duty *d, const struct order *o, const struct handover *p, struct answer *a,
                      struct vmm_started *ret, struct cgroup *ret_cgroup)
{
    if (p->n_fds < LAUNCH_ENDS || !is_allowed(d->run, o->store_path)) {
        a->r = mvm_error_set(&a->err, -EPERM, "the launcher was given an order that it does not follow");
        return;
    }
    struct vmm_source source = {
        .memory_fd = p->n_fds > LAUNCH_ENDS ? p->fds[LAUNCH_ENDS] : -1,
        .share = o->share,
        .restore = o->restore,
        .store_path = o->store_path[0] ? o->store_path : NULL,
        .dir_fd = d->dir_fd,
    };
    a->r = launch_bounded(d, &source, p->fds, ret, a, ret_cgroup);
    a->pid = ret->process.pid;
    a->jail = ret->jail;
}

/* Of the network process meanwhile: its network's members, an order to start one, and its question for the host's
 * resolvers. */
static void serve_network(struct launch_duty *d, const struct pollfd *order, const struct pollfd *resolv,
                          const struct pollfd *members, size_t n)
{
    membership_serve(&d->membership, members, n);
    if (resolv->revents && !resolvers_answer(d->resolv_fd))
        fd_closep(&d->resolv_fd);
    if (order->revents)
        launch_networker(d);
}

/* False at the end of the socket. */
static bool wait_order(int fd, struct launch_duty *d, struct bounded *running)
{
    for (;;) {
        struct pollfd p[MAX_BOUNDED + 3 + MEMBERSHIP_FDS] = {{.fd = fd, .events = POLLIN},
                                                             {.fd = d->network_fd, .events = POLLIN},
                                                             {.fd = d->resolv_fd, .events = POLLIN}};
        for (size_t i = 0; i < MAX_BOUNDED; i++)
            p[i + 3] = (struct pollfd){.fd = running[i].pidfd, .events = POLLIN};
        struct pollfd *members = p + MAX_BOUNDED + 3;
        size_t n = membership_fill(&d->membership, members);
        if (poll(p, MAX_BOUNDED + 3 + n, -1) < 0 && errno != EINTR)
            return false;
        for (size_t i = 0; i < MAX_BOUNDED; i++)
            if (p[i + 3].revents)
                bounded_done(&running[i]);
        if (p[0].revents)
            return p[0].revents & POLLIN;
        serve_network(d, &p[1], &p[2], members, n);
    }
}

/* What was started, and how it is reached. */
static int answer_order(int fd, struct answer *a, struct vmm_started *vmm)
{
    struct handover packet = {.data = a, .size = sizeof(*a)};
    if (vmm->process.pidfd >= 0)
        packet.fds[packet.n_fds++] = vmm->process.pidfd;
    a->control = packet.n_fds && vmm->control_fd >= 0;
    if (a->control)
        packet.fds[packet.n_fds++] = vmm->control_fd;
    a->listens = packet.n_fds && vmm->listen_fd >= 0;
    if (a->listens)
        packet.fds[packet.n_fds++] = vmm->listen_fd;
    int r = handover_send(fd, &packet);
    fd_closep(&vmm->control_fd);
    fd_closep(&vmm->listen_fd);
    return r;
}

/* *next: where what is started is kept. */
static bool serve_order(int fd, const struct launch_duty *d, struct bounded *running, size_t *next)
{
    struct bounded *ret = &running[*next];
    struct order o;
    struct answer a = {0};
    struct vmm_started vmm = VMM_STARTED_INIT;
    struct handover p = {.data = &o, .size = sizeof(o)};
    int r = handover_receive(fd, &p);
    o.store_path[sizeof(o.store_path) - 1] = '\0';
    if (r == 0 && p.n_fds == 0 && o.remove) {
        (void)port_socket_remove_stale(o.store_path);
        return true;
    }
    *next = (*next + 1) % MAX_BOUNDED;
    bounded_done(ret); /* more at a time than there ever are: the next run removes it if it is not empty */
    if (r == 0)
        carry_out(d, &o, &p, &a, &vmm, &ret->cgroup);
    for (size_t i = 0; i < p.n_fds; i++)
        close(p.fds[i]);
    if (r == 0)
        r = answer_order(fd, &a, &vmm);
    ret->pidfd = vmm.process.pidfd; /* the supervisor has one, too, and the process */
    if (ret->pidfd < 0 || ret->cgroup.fd < 0)
        bounded_done(ret);
    return r == 0;
}

static void serve(int fd, struct launch_duty *d)
{
    struct bounded running[MAX_BOUNDED];
    for (size_t i = 0; i < MAX_BOUNDED; i++)
        running[i] = (struct bounded){.pidfd = -1, .cgroup = CGROUP_INIT};
    for (size_t next = 0; wait_order(fd, d, running);)
        if (!serve_order(fd, d, running, &next))
            break;
    membership_leave(&d->membership);
    for (size_t i = 0; i < MAX_BOUNDED; i++)
        bounded_done(&running[i]);
}

static _Noreturn void be_launcher(int fd, struct launch_duty *d, pid_t supervisor)
{
    prctl(PR_SET_NAME, "mvm-launcher");
    signal(SIGPIPE, SIG_IGN);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != supervisor || dup2(fd, 3) < 0 ||
        dup2(d->network_fd, 4) < 0 || dup2(d->dir_fd, 5) < 0 || os_close_from(6) < 0 ||
        vmm_find(d->run->backend, &d->backend, NULL) < 0)
        _exit(1);
    d->network_fd = 4;
    d->dir_fd = 5;
    membership_init(&d->membership, d->run);
    serve(3, d);
    _exit(0);
}

/* ---- The supervisor's side ---- */

int launcher_start(struct launcher *l, const struct runfile *run, int dirfd, struct mvm_error *err)
{
    int pair[2] = {-1, -1}, network[2] = {-1, -1};
    pid_t self = getpid();
    int r = launch_make_card(&l->frames_fd, &l->network_frames_fd);
    /* The VMMs that it starts become children of this process. */
    if (r == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        r = -errno;
    if (r == 0)
        r = os_packet_pair(pair);
    if (r == 0)
        r = os_packet_pair(network);
    CLEAN_FD int ours = pair[0];
    CLEAN_FD int theirs = pair[1];
    CLEAN_FD int our_network = network[0];
    CLEAN_FD int their_network = network[1];
    struct launch_duty duty = {
        .run = run, .bounds = bounds_of(run, dirfd), .dir_fd = dirfd, .network_fd = their_network, .resolv_fd = -1};
    pid_t pid = r == 0 ? fork() : -1;
    if (pid < 0)
        return mvm_error_errno(err, r < 0 ? r : -errno, "cannot make the launcher");
    if (pid == 0)
        be_launcher(theirs, &duty, self);
    l->fd = TAKE_FD(ours);
    l->network_fd = TAKE_FD(our_network);
    return 0;
}

void launcher_remove_socket(const struct launcher *l, const char *path)
{
    struct order o = {.remove = true};
    const struct handover order = {.data = &o, .size = sizeof(o)};
    snprintf(o.store_path, sizeof(o.store_path), "%s", path);
    (void)!handover_send(l->fd, &order); /* what stays is replaced by the next that is published there */
}

void launcher_stop(struct launcher *l)
{
    struct pollfd p = {.fd = l->fd};
    if (l->fd >= 0 && shutdown(l->fd, SHUT_WR) == 0)
        (void)!poll(&p, 1, STOP_MS);
    fd_closep(&l->fd);
    fd_closep(&l->network_fd);
    fd_closep(&l->frames_fd);
    fd_closep(&l->network_frames_fd);
}

static int take_answer(int fd, struct vmm_started *ret, struct mvm_error *err)
{
    struct answer a;
    struct handover answer = {.data = &a, .size = sizeof(a)};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r = poll(&p, 1, ANSWER_MS) > 0 ? handover_receive(fd, &answer) : -ETIMEDOUT;
    if (r < 0)
        return mvm_error_errno(err, r, "the launcher does not answer");
    size_t n = 0;
    *ret = (struct vmm_started)VMM_STARTED_INIT;
    ret->jail = a.jail;
    ret->process.pid = a.pid;
    int *const places[] = {&ret->process.pidfd, a.control ? &ret->control_fd : NULL,
                           a.listens ? &ret->listen_fd : NULL};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (places[i] && n < answer.n_fds)
            *places[i] = answer.fds[n++];
    if (a.r == 0 && answer.n_fds == 0)
        a.r = mvm_error_set(&a.err, -EPROTO, "the launcher sent no process");
    if (a.r < 0 && err)
        *err = a.err;
    return a.r;
}

static int ask(const struct launcher *l, const struct vmm_source *source, const int *ends, struct launched *ret,
               struct mvm_error *err)
{
    struct order o = {.share = source->share, .restore = source->restore};
    struct handover order = {.data = &o, .size = sizeof(o), .n_fds = LAUNCH_ENDS};
    snprintf(o.store_path, sizeof(o.store_path), "%s", source->store_path ? source->store_path : "");
    memcpy(order.fds, ends, LAUNCH_ENDS * sizeof(int));
    if (source->memory_fd >= 0)
        order.fds[order.n_fds++] = source->memory_fd;
    int r = handover_send(l->fd, &order);
    struct vmm_started started = VMM_STARTED_INIT;
    r = r < 0 ? mvm_error_errno(err, r, "the launcher does not answer") : take_answer(l->fd, &started, err);
    launched_take(ret, &started);
    return r;
}

int launcher_launch(const struct launcher *l, const struct vmm_source *source, struct launched *ret,
                    struct mvm_error *err)
{
    int ends[LAUNCH_ENDS] = {-1, -1, -1, -1, -1};
    int r = launched_connect(ret, l->frames_fd, ends);
    r = r < 0 ? mvm_error_errno(err, r, "cannot make sockets") : ask(l, source, ends, ret, err);
    for (size_t i = 0; i < LAUNCH_ENDS; i++)
        fd_closep(&ends[i]);
    return r;
}

int launcher_order_network(struct launcher *l, int report_fd, struct mvm_error *err)
{
    char order = 0;
    const struct handover packet = {
        .data = &order, .size = sizeof(order), .fds = {l->network_frames_fd, report_fd}, .n_fds = NETWORK_FDS};
    int r = handover_send(l->network_fd, &packet);
    return r < 0 ? mvm_error_errno(err, r, "the launcher takes no order") : 0;
}

int launcher_take_network(struct launcher *l, struct process *ret, struct jail_report *jail, struct mvm_error *err)
{
    struct vmm_started started = VMM_STARTED_INIT;
    int r = take_answer(l->network_fd, &started, err);
    *ret = started.process;
    *jail = started.jail;
    return r;
}
