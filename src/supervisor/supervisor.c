/*
 * This is the supervisor: one process for each VM. It exists because somebody must own the VMM, the channel to the
 * guest, the console's log and the control socket for as long as the VM runs, while commands come and go. It is started
 * by machine_start (start.c) with three descriptors: the VM's folder, the folder's lock (held until this process ends:
 * the truth about "running"), and a socket to the starter, on which it sends one MSG_STATUS when the VM is ready or has
 * failed. The starter's end closing before that, or at any time for a transient VM, ends the VM.
 *
 * Its life is a table (life.c), that of its VM another (vm.c). One libuv loop, nothing blocks, nothing is polled.
 */
#include "supervisor/supervisor.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/os.h"
#include "supervisor/internal.h"
#include "vmdir/vmdir.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONSOLE_CAP (1u << 20)
#define AGENT_CAP   (1u << 20)

/* ---- The VM ---- */

static void on_console(void *owner, const void *p, size_t n)
{
    struct supervisor *s = owner;
    logfile_write(&s->console_log, p, n);
    lastwords_add(&s->console, p, n);
}

static void on_vm_log(void *owner, const char *text)
{
    struct supervisor *s = owner;
    logfile_printf(&s->agent_log, "mvm: %s\n", text);
}

static void on_vm_lost(void *owner, const char *why)
{
    struct supervisor *s = owner;
    snprintf(s->status.hint, sizeof(s->status.hint), "the snapshot is kept; mvmctl logs %s shows what the backend said",
             s->run.name);
    starter_fail(s, "the snapshot cannot be restored: %s", why);
}

static void on_vm_changed(void *owner)
{
    struct supervisor *s = owner;
    s->status.vmm_pid = (uint64_t)s->vm.now->process.pid;
    s->status.confined = s->vm.now->jail.seccomp;
    jail_report_format(&s->vm.now->jail, s->status.confinement);
    jail_report_format(&s->jail, s->status.own_confinement);
    snprintf(s->status.limits, sizeof(s->status.limits), "%s", s->vm.now->jail.limits);
}

static const struct vm_ops vm_ops = {
    .channel = &supervisor_conn_ops,
    .console = on_console,
    .log = on_vm_log,
    .changed = on_vm_changed,
    .agent = guest_agent,
    .lost = on_vm_lost,
    .ended = ending_vm_ended,
    .settled = ending_settled,
};

static void on_network_counts(void *owner, const char *text)
{
    struct supervisor *s = owner;
    snprintf(s->status.network, sizeof(s->status.network), "%s", text);
}

static const struct network_ops network_ops = {.log = on_vm_log, .counts = on_network_counts};

static void on_signal(uv_signal_t *h, int sig)
{
    supervisor_stop(h->data, DEFAULT_GRACE_MS, true);
}

/* ---- Its life ---- */

static void on_changed(void *owner)
{
    struct supervisor *s = owner;
    supervisor_say_state(s);
    supervisor_watch_idle(s);
}

static void on_failed(void *owner)
{
    starter_tell(owner);
}

static void on_ending(void *owner)
{
    struct supervisor *s = owner;
    vm_stop(&s->vm);
    uv_timer_stop(&s->timer);
    idle_pause_wake(&s->idle_pause);
    (void)!run_state_unhold(&s->vm.processors, VM_HOLD_USER,
                            (struct vmm_done){0}); /* or the guest could not do its part */
}

static bool can_ask_guest(void *owner)
{
    return supervisor_guest(owner);
}

static void ask_guest(void *owner)
{
    conn_send_bare(supervisor_guest(owner), MSG_POWEROFF);
}

static bool writes_disk(void *owner)
{
    const struct supervisor *s = owner;
    return s->vm.now && s->run.store_disk[0];
}

static int ask_vmm(void *owner)
{
    struct supervisor *s = owner;
    return s->vm.backend->quit(s->vm.now->vmm);
}

static void kill_vmm(void *owner)
{
    struct supervisor *s = owner;
    if (s->vm.now)
        process_signal(&s->vm.now->process, SIGKILL);
}

static bool on_ended(void *owner)
{
    struct supervisor *s = owner;
    return vm_settle(&s->vm);
}

static void leave(void *owner)
{
    struct supervisor *s = owner;
    uv_stop(&s->loop);
}

static const struct life_ops life_ops = {
    .changed = on_changed,
    .failed = on_failed,
    .ending = on_ending,
    .can_ask_guest = can_ask_guest,
    .ask_guest = ask_guest,
    .writes_disk = writes_disk,
    .ask_vmm = ask_vmm,
    .kill_vmm = kill_vmm,
    .ended = on_ended,
    .leave = leave,
};

/* ---- Start ---- */

static void on_small_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    static char chunk[4096]; /* used up before the next read */
    *b = uv_buf_init(chunk, sizeof(chunk));
}

static int open_pipe(struct supervisor *s, uv_pipe_t *p, int fd, uv_read_cb on_read)
{
    int r = uv_pipe_init(&s->loop, p, 0);
    p->data = s;
    if (r == 0)
        r = uv_pipe_open(p, fd);
    if (r == 0 && on_read)
        r = uv_read_start((uv_stream_t *)p, on_small_alloc, on_read);
    return r;
}

/* The VMM is started before anything else is set up: everything else happens while it loads. */
static int supervisor_start(struct supervisor *s, int starter_fd, uint64_t begun_at, struct mvm_error *err)
{
    s->vm = (struct vm){
        .loop = &s->loop, .run = &s->run, .launcher = &s->launcher, .dirfd = s->dirfd, .ops = &vm_ops, .owner = s};
    steps_add(&s->vm.steps, "supervisor-init", begun_at);
    int r = vm_start(&s->vm, err);
    if (r < 0)
        return r;
    uint64_t since = clock_now();
    s->status.spawn_ns = supervisor_since_start(s);
    r = network_init(&s->network, &s->loop, &s->launcher, s->run.member_of[0], &network_ops, s);
    if (r == 0)
        r = open_pipe(s, &s->starter, starter_fd, starter_event);
    if (r == 0)
        r = connections_listen(s);
    steps_add(&s->vm.steps, "control-socket", since);
    return r < 0 ? mvm_error_errno(err, r, "cannot set up the supervisor") : 0;
}

static int supervisor_init(struct supervisor *s, int dirfd)
{
    s->dirfd = dirfd;
    s->console_log = (struct logfile)LOGFILE_INIT(dirfd, VMDIR_CONSOLE, CONSOLE_CAP);
    s->agent_log = (struct logfile)LOGFILE_INIT(dirfd, VMDIR_AGENT, AGENT_CAP);
    s->router = router_new(&supervisor_router_ops, s);
    if (!s->router || uv_loop_init(&s->loop) < 0)
        return -ENOMEM;
    s->life = (struct life){.ops = &life_ops, .owner = s};
    life_init(&s->life, &s->loop);
    uv_timer_init(&s->loop, &s->timer);
    s->timer.data = s;
    if (requests_init(s) < 0)
        return -ENOMEM;
    connections_init(s);
    uv_timer_init(&s->loop, &s->idle);
    uv_timer_init(&s->loop, &s->channel_lost);
    s->idle.data = s->channel_lost.data = s;
    static const int sigs[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < ARRAY_SIZE(sigs); i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, sigs[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int supervisor_main(int argc, char **argv)
{
    uint64_t begun_at = clock_now();
    /* A fourth descriptor is only held: it closes with this process. */
    if (argc != 3 && !(argc == 4 && fd_set_cloexec(atoi(argv[3]), true) == 0))
        return 2;
    int dirfd = atoi(argv[0]), lock_fd = atoi(argv[1]), starter_fd = atoi(argv[2]);
    if (fd_set_cloexec(dirfd, true) < 0 || fd_set_cloexec(lock_fd, true) < 0 || fd_set_cloexec(starter_fd, true) < 0)
        return 2;
    os_set_name("mvm-supervisor");
    struct mvm_error err = MVM_ERROR_INIT;
    static struct supervisor s = {.launcher = LAUNCHER_INIT, .network = {.process = PROCESS_INIT, .report_fd = -1}};
    int r = runfile_load(&s.run, dirfd, &err);
    if (r == 0) /* before libuv's first loop, whose handlers would follow each fork */
        r = launcher_start(&s.launcher, &s.run, dirfd, &err);
    if (supervisor_init(&s, dirfd) < 0)
        return 1;
    if (r == 0)
        r = supervisor_confine(&s, &err);
    if (r == 0) {
        uv_timer_start(&s.timer, starter_timeout, s.run.timeout_ms, 0);
        r = supervisor_start(&s, starter_fd, begun_at, &err);
    }
    if (r < 0) {
        (void)life_happens(&s.life, LIFE_E_FAIL);
        snprintf(s.status.problem, sizeof(s.status.problem), "%.1023s", err.msg);
        snprintf(s.status.hint, sizeof(s.status.hint), "%s", err.hint);
        CLEAN_BUF struct buf m = BUF_INIT(FRAME_MAX_PAYLOAD);
        if (msg_status_encode(&m, &s.status) == 0)
            (void)!send(starter_fd, m.data, m.len, MSG_NOSIGNAL);
        if (s.vm.now)
            process_done(&s.vm.now->process);
        vm_done(&s.vm);
        network_stop(&s.network);
        launcher_stop(&s.launcher);
        ending_remove_traces(&s);
        return 1;
    }
    (void)life_happens(&s.life, LIFE_E_STARTED);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    publish_end(s.publish);
    network_stop(&s.network);
    vm_done(&s.vm);
    launcher_stop(&s.launcher);
    ending_remove_traces(&s);
    /* The clients' connections and the lock end with the process. */
    return 0;
}
