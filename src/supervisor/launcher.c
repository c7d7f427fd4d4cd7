/*
 * This is the launcher: one process beside each supervisor. It exists because bubblewrap cannot make namespaces under
 * Landlock, and because whoever takes a supervisor over must not be able to start what he likes: an order says no more
 * than where memory and store come from, everything else is run.json's.
 */
#include "supervisor/launcher.h"
#include "base/os.h"
#include "base/path.h"
#include "jail/cgroup.h"
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

#define ANSWER_MS 15000
#define STOP_MS   1000
#define MAX_FDS   5

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
    struct jail_report jail;
    struct mvm_error err;
};

/* One packet and the descriptors that come with it. */
struct packet {
    void *data;
    size_t size;
    int fds[MAX_FDS];
    size_t n_fds;
};

union control {
    struct cmsghdr align;
    char room[CMSG_SPACE(sizeof(int) * MAX_FDS)];
};

static int packet_send(int fd, const struct packet *p)
{
    union control c = {0};
    struct iovec iov = {.iov_base = p->data, .iov_len = p->size};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (p->n_fds) {
        m.msg_control = &c;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * p->n_fds);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int) * p->n_fds);
        memcpy(CMSG_DATA(h), p->fds, sizeof(int) * p->n_fds);
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int packet_receive(int fd, struct packet *p)
{
    union control c = {0};
    struct iovec iov = {.iov_base = p->data, .iov_len = p->size};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    ssize_t n = fd_recv_message(fd, &m, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return (int)n;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (h && h->cmsg_type == SCM_RIGHTS) {
        p->n_fds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(p->fds, CMSG_DATA(h), p->n_fds * sizeof(int));
    }
    return n == 0 ? -EPIPE : (size_t)n == p->size ? 0 : -EPROTO;
}

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

/* In a cgroup where one can be had, which is *ret_cgroup then. */
static int launch_bounded(const struct launch_duty *d, struct vmm_source *source, const int *ends, struct process *ret,
                          struct answer *a, struct cgroup *ret_cgroup)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = cgroup_make(ret_cgroup, d->run->name, &d->bounds, &why);
    if (r == 0) {
        source->cgroup_fd = ret_cgroup->fd;
        r = launch_vmm(d->backend, d->run, source, ends, ret, &a->jail, &a->err);
        cgroup_bounds_format(&d->bounds, a->jail.limits, sizeof(a->jail.limits));
        if (r != -EXDEV)
            return r;
        why = a->err;
        cgroup_remove(ret_cgroup);
        source->cgroup_fd = 0;
    }
    r = launch_vmm(d->backend, d->run, source, ends, ret, &a->jail, &a->err);
    snprintf(a->jail.limits, sizeof(a->jail.limits), "none: %.120s", why.msg);
    return r;
}

static void carry_out(const struct launch_duty *d, const struct order *o, const struct packet *p, struct answer *a,
                      struct process *ret, struct cgroup *ret_cgroup)
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
    };
    a->r = launch_bounded(d, &source, p->fds, ret, a, ret_cgroup);
    a->pid = ret->pid;
}

/* False at the end of the socket. */
static bool wait_order(int fd, struct bounded *running)
{
    for (;;) {
        struct pollfd p[MAX_BOUNDED + 1] = {{.fd = fd, .events = POLLIN}};
        for (size_t i = 0; i < MAX_BOUNDED; i++)
            p[i + 1] = (struct pollfd){.fd = running[i].pidfd, .events = POLLIN};
        if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
            return false;
        for (size_t i = 0; i < MAX_BOUNDED; i++)
            if (p[i + 1].revents)
                bounded_done(&running[i]);
        if (p[0].revents)
            return p[0].revents & POLLIN;
    }
}

/* *next: where what is started is kept. */
static bool serve_order(int fd, const struct launch_duty *d, struct bounded *running, size_t *next)
{
    struct bounded *ret = &running[*next];
    struct order o;
    struct answer a = {0};
    struct process vmm = PROCESS_INIT;
    struct packet p = {.data = &o, .size = sizeof(o)};
    int r = packet_receive(fd, &p);
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
    const struct packet answer = {.data = &a, .size = sizeof(a), .fds = {vmm.pidfd}, .n_fds = vmm.pidfd >= 0};
    if (r == 0)
        r = packet_send(fd, &answer);
    ret->pidfd = vmm.pidfd; /* the supervisor has one, too, and the process */
    if (ret->pidfd < 0 || ret->cgroup.fd < 0)
        bounded_done(ret);
    return r == 0;
}

static void serve(int fd, const struct launch_duty *d)
{
    struct bounded running[MAX_BOUNDED];
    for (size_t i = 0; i < MAX_BOUNDED; i++)
        running[i] = (struct bounded){.pidfd = -1, .cgroup = CGROUP_INIT};
    for (size_t next = 0; wait_order(fd, running);)
        if (!serve_order(fd, d, running, &next))
            break;
    for (size_t i = 0; i < MAX_BOUNDED; i++)
        bounded_done(&running[i]);
}

static _Noreturn void be_launcher(int fd, struct launch_duty *d, pid_t supervisor)
{
    prctl(PR_SET_NAME, "mvm-launcher");
    signal(SIGPIPE, SIG_IGN);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != supervisor || dup2(fd, 3) < 0 || os_close_from(4) < 0 ||
        vmm_find(d->run->backend, &d->backend, NULL) < 0)
        _exit(1);
    serve(3, d);
    _exit(0);
}

/* ---- The supervisor's side ---- */

int launcher_start(struct launcher *l, const struct runfile *run, int dirfd, struct mvm_error *err)
{
    int pair[2];
    pid_t self = getpid();
    struct launch_duty duty = {.run = run, .bounds = bounds_of(run, dirfd)};
    /* The VMMs that it starts become children of this process. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return mvm_error_errno(err, -errno, "cannot make the launcher");
    CLEAN_FD int ours = pair[0];
    CLEAN_FD int theirs = pair[1];
    pid_t pid = fork();
    if (pid < 0)
        return mvm_error_errno(err, -errno, "cannot make the launcher");
    if (pid == 0)
        be_launcher(theirs, &duty, self);
    l->fd = TAKE_FD(ours);
    return 0;
}

void launcher_remove_socket(const struct launcher *l, const char *path)
{
    struct order o = {.remove = true};
    const struct packet order = {.data = &o, .size = sizeof(o)};
    snprintf(o.store_path, sizeof(o.store_path), "%s", path);
    (void)!packet_send(l->fd, &order); /* what stays is replaced by the next that is published there */
}

void launcher_stop(struct launcher *l)
{
    struct pollfd p = {.fd = l->fd};
    if (l->fd >= 0 && shutdown(l->fd, SHUT_WR) == 0)
        (void)!poll(&p, 1, STOP_MS);
    fd_closep(&l->fd);
}

static int ask(const struct launcher *l, const struct vmm_source *source, const int *ends, struct launched *ret,
               struct mvm_error *err)
{
    struct order o = {.share = source->share, .restore = source->restore};
    struct packet order = {.data = &o, .size = sizeof(o), .n_fds = LAUNCH_ENDS};
    struct answer a;
    struct packet answer = {.data = &a, .size = sizeof(a)};
    snprintf(o.store_path, sizeof(o.store_path), "%s", source->store_path ? source->store_path : "");
    memcpy(order.fds, ends, LAUNCH_ENDS * sizeof(int));
    if (source->memory_fd >= 0)
        order.fds[order.n_fds++] = source->memory_fd;
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    int r = packet_send(l->fd, &order);
    if (r == 0)
        r = poll(&p, 1, ANSWER_MS) > 0 ? packet_receive(l->fd, &answer) : -ETIMEDOUT;
    if (r < 0)
        return mvm_error_errno(err, r, "the launcher does not answer");
    ret->process = (struct process){.pid = a.pid, .pidfd = answer.n_fds ? answer.fds[0] : -1};
    ret->jail = a.jail;
    if (a.r == 0 && answer.n_fds == 0)
        a.r = mvm_error_set(&a.err, -EPROTO, "the launcher sent no process");
    if (a.r < 0 && err)
        *err = a.err;
    return a.r;
}

int launcher_launch(const struct launcher *l, const struct vmm_source *source, struct launched *ret,
                    struct mvm_error *err)
{
    int ends[LAUNCH_ENDS] = {-1, -1, -1, -1};
    int r = launched_connect(ret, ends);
    r = r < 0 ? mvm_error_errno(err, r, "cannot make sockets") : ask(l, source, ends, ret, err);
    for (size_t i = 0; i < LAUNCH_ENDS; i++)
        fd_closep(&ends[i]);
    return r;
}
