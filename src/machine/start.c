/* Starting a VM: its folder, run.json, the supervisor, and waiting for the one packet that says ready or failed. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/config.h"
#include "host/interrupt.h"
#include "host/os.h"
#include "image/manifest.h"
#include "machine/explain.h"
#include "machine/machine.h"
#include "vmdir/networks.h"
#include "vmdir/runfile.h"
#include "vmdir/vmdir.h"
#include "vmdir/vmm_config.h"
#include "wire/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* hold_fd 0: none. */
static int spawn_supervisor(int dirfd, int lock_fd, int starter_fd, int hold_fd, struct process *ret,
                            struct mvm_error *err)
{
    char numbers[4][12];
    const int fds[4] = {dirfd, lock_fd, starter_fd, hold_fd};
    const size_t n = hold_fd ? 4 : 3;
    for (size_t i = 0; i < n; i++)
        snprintf(numbers[i], sizeof(numbers[i]), "%d", fds[i]);
    const char *argv[] = {os_self_exe(), "--supervise", numbers[0], numbers[1], numbers[2], hold_fd ? numbers[3] : NULL,
                          NULL};
    const struct process_opts o = {
        .argv = argv,
        .cwd = "/",
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = -1,
        .keep_fds = fds,
        .n_keep_fds = n,
        .new_session = true,
    };
    return process_start(&o, ret, err);
}

/* What somebody needs who has to find out why a guest did not come up. */
static void explain_failure(int dirfd, const struct runfile *run, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(16384);
    CLEAN_BUF struct buf cmdline = BUF_INIT(4096);
    CLEAN_FD int image = open(run->image_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (image >= 0)
        (void)!path_read_file(image, artifact_name(ARTIFACT_CMDLINE), &cmdline, NULL);
    (void)!buf_printf(&text, "backend: %s, %s (%s)\nkernel command line: %.*s\n", run->backend, run->accel.name,
                      run->accel.reason, (int)strcspn(buf_cstr(&cmdline), "\n"), buf_cstr(&cmdline));
    explain_logs(dirfd, &text);
    mvm_error_detail(err, buf_cstr(&text), text.len);
}

/* Waits for the supervisor's packet. 0 with the status, -EINTR, -EPIPE where it died without one. */
static int wait_status(int fd, uint64_t deadline, struct msg_status *ret)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
        int n = poll(fds, 2, clock_left_ms(deadline));
        if (n == 0)
            return -ETIMEDOUT;
        if (fds[1].revents || interrupt_pending())
            return -EINTR;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        uint8_t packet[FRAME_MAX_PAYLOAD];
        ssize_t got = fd_recv_packet(fd, packet, sizeof(packet), 0);
        if (got <= 0)
            return -EPIPE;
        return msg_status_decode(ret, packet, (size_t)got);
    }
}

static void info_from_run(struct machine_info *info, const struct runfile *run)
{
    const struct steps steps = info->steps;
    *info = (struct machine_info){.steps = steps,
                                  .accel = run->accel,
                                  .memory_mib = run->memory_mib,
                                  .vcpus = (unsigned)run->vcpus,
                                  .started_at = run->started_at,
                                  .tether = -1};
    snprintf(info->name, sizeof(info->name), "%s", run->name);
    snprintf(info->role, sizeof(info->role), "%s", run->role);
    snprintf(info->image, sizeof(info->image), "%s", run->image);
    snprintf(info->backend, sizeof(info->backend), "%s", run->backend);
    snprintf(info->network, sizeof(info->network), "%s", run->network);
    snprintf(info->network_limits, sizeof(info->network_limits), "%s", run->network_limits);
    snprintf(info->member_of, sizeof(info->member_of), "%s", run->member_of);
    info->member = (unsigned)run->member;
}

/* What continues has its memory and its devices already. */
static int check_image(const struct machine_config *c, const struct vmm_ops *backend, struct mvm_error *err)
{
    CLEAN_FD int image = c->state ? -1 : open(c->image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (image < 0)
        return 0; /* launching says what is wrong with it */
    int r = image_check_memory(image, c->memory_mib, err);
    return r < 0 ? r : vmm_takes_image(backend, image, err);
}

static void set_network(struct runfile *run, const struct machine_config *c, const struct config *config)
{
    if (c->network && *c->network)
        snprintf(run->network, sizeof(run->network), "%s", c->network);
    else
        snprintf(run->network, sizeof(run->network), "@%s", config_network(config));
    snprintf(run->network_limits, sizeof(run->network_limits), "%s", c->network_limits ? c->network_limits : "");
    snprintf(run->pcap, sizeof(run->pcap), "%s", c->pcap ? c->pcap : "");
}

/* Whether that backend can run it here. */
static int check_backend(const struct vmm_ops *backend, const struct runfile *run, const struct machine_config *c,
                         struct mvm_error *err)
{
    const char *arch = vmm_image_arch(c->image);
    bool network = strcmp(run->network, "@none") != 0 || (c->member_of && *c->member_of);
    int r = check_image(c, backend, err);
    if (r == 0)
        r = backend->available(arch, err);
    return r < 0 ? r : vmm_check_host(backend, &run->accel, network, err);
}

/* The one that is asked for, or the first that can run it here. Where none can, what is said of the first is told. */
static int choose_backend(const struct runfile *run, const struct machine_config *c, const char *name,
                          const struct vmm_ops **ret, struct mvm_error *err)
{
    struct mvm_error why = MVM_ERROR_INIT;
    int r = vmm_find(name, ret, err);
    if (r < 0)
        return r;
    r = check_backend(*ret, run, c, &why);
    for (size_t i = 1; r < 0 && vmm_is_chosen(name) && vmm_all[i]; i++) {
        if (check_backend(vmm_all[i], run, c, NULL) < 0)
            continue;
        *ret = vmm_all[i];
        return 0;
    }
    if (r < 0 && err)
        *err = why;
    return r;
}

static int fill_runfile(struct runfile *run, struct home *h, const struct machine_config *c, uint64_t start_mono,
                        struct mvm_error *err)
{
    const struct vmm_ops *backend;
    CLEAN_CONFIG struct config config = CONFIG_INIT;
    int r = config_load(&config, h, err);
    const char *name = c->hypervisor || c->role == VM_ROLE_BUILDER ? c->hypervisor : config.hypervisor;
    if (r == 0)
        r = vmm_choose_accel_for(vmm_image_arch(c->image), h->state_fd,
                                 c->counting ? vmm_emulation : getenv("MVM_ACCEL"), &run->accel, err);
    set_network(run, c, &config);
    if (r == 0)
        r = choose_backend(run, c, name, &backend, err);
    if (r < 0)
        return r;
    if (c->cold)
        snprintf(run->cold_reason, sizeof(run->cold_reason), "it was asked for");
    else if (!config.boot_snapshots)
        snprintf(run->cold_reason, sizeof(run->cold_reason), "boot.snapshots is false in " CONFIG_FILE);
    snprintf(run->name, sizeof(run->name), "%s", c->name);
    snprintf(run->role, sizeof(run->role), "%s", vm_role_name(c->role));
    snprintf(run->image, sizeof(run->image), "%s", c->image_digest ? c->image_digest : "");
    snprintf(run->backend, sizeof(run->backend), "%s", backend->name);
    snprintf(run->hostname, sizeof(run->hostname), "%s", c->hostname ? c->hostname : c->name);
    if ((size_t)snprintf(run->image_path, sizeof(run->image_path), "%s", c->image) >= sizeof(run->image_path) ||
        (size_t)snprintf(run->store_disk, sizeof(run->store_disk), "%s", c->store_disk ? c->store_disk : "") >=
            sizeof(run->store_disk) ||
        (size_t)snprintf(run->state, sizeof(run->state), "%s", c->state ? c->state : "") >= sizeof(run->state) ||
        (!run->cold_reason[0] && !c->state && !c->counting &&
         (size_t)snprintf(run->snapshots, sizeof(run->snapshots), "%s/snapshots", h->cache) >= sizeof(run->snapshots)))
        return mvm_error_set(err, -ENAMETOOLONG, "the image's path is too long");
    run->memory_mib = c->memory_mib;
    run->vcpus = c->vcpus;
    run->timeout_ms = c->timeout_ms;
    run->idle_ms = c->idle_ms;
    run->counting = c->counting;
    run->ready = c->ready;
    run->settle_ms = c->settle_ms;
    run->started_at = clock_wall();
    run->start_mono = start_mono;
    run->transient = c->transient;
    run->verify = c->verify;
    run->store_check = c->store_check;
    run->confine = config.confine == CONFINE_REQUIRED;
    return 0;
}

/* Waits for the supervisor's end (closing its socket told it so), and kills it where that takes too long. */
static void abandon(struct process *supervisor, int64_t grace_ms)
{
    if (process_wait(supervisor, clock_deadline(grace_ms)) < 0)
        process_done(supervisor);
}

/* The supervisor lives on: forget it without ending it. */
static void release(struct process *p)
{
    fd_closep(&p->pidfd);
    *p = (struct process)PROCESS_INIT;
}

/* One that has ended meanwhile did get ready: what is wrong its services say. */
static bool came_up(const struct msg_status *st)
{
    enum vm_state state = vm_state_parse(st->state);
    return state == VM_STATE_READY || (state == VM_STATE_STOPPING && st->services[0]);
}

static int failed(const struct msg_status *st, int dirfd, const struct runfile *run, struct mvm_error *err)
{
    mvm_error_set(err, -ECHILD, "vm '%s' did not get ready: %s", run->name, st->problem);
    mvm_error_hint(err, "%s", st->hint[0] ? st->hint : "");
    if (run->transient)
        mvm_error_hint(err, "the kernel's and the backend's last words are above");
    else
        mvm_error_hint(err, "mvmctl logs %s shows everything; more time: --timeout SECONDS", run->name);
    explain_failure(dirfd, run, err);
    return -ECHILD;
}

/* run.json, and with it the VM's place in its network. */
static int write_runfile(struct home *h, const struct machine_config *c, int dirfd, struct runfile *run,
                         struct mvm_error *err)
{
    CLEAN_FD int place = -1;
    int r = c->member_of && *c->member_of ? networks_join(h, c->member_of, run, &place, err) : 0;
    return r < 0 ? r : runfile_save(run, dirfd, err);
}

static int start_in_dir(struct home *h, const struct machine_config *c, int vms_fd, int dirfd, struct lock *lock,
                        struct runfile *run, struct machine_info *info, struct mvm_error *err)
{
    uint64_t since = clock_now();
    int r = write_runfile(h, c, dirfd, run, err);
    if (r < 0)
        return r;
    steps_add(&info->steps, "run-file", since);
    int pair[2];
    r = os_packet_pair(pair);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot make a socket");
    CLEAN_FD int ours = pair[0];
    CLEAN_FD int theirs = pair[1];
    CLEAN_PROCESS struct process supervisor = PROCESS_INIT;
    since = clock_now();
    r = spawn_supervisor(dirfd, lock->fd, theirs, c->hold_fd, &supervisor, err);
    if (r < 0)
        return r;
    steps_add(&info->steps, "spawn-supervisor", since);
    fd_closep(&theirs);
    lock_done(lock); /* the supervisor holds it now */
    info_from_run(info, run);
    info->supervisor = supervisor.pid;
    /* The supervisor has the deadline that counts; ours is for a supervisor that hangs. */
    since = clock_now();
    r = wait_status(ours, clock_deadline((int64_t)(c->timeout_ms * 5 / 4 + c->settle_ms) + 10000), &info->status);
    steps_add(&info->steps, "wait-ready", since);
    info->own_steps = info->steps.n;
    steps_parse(&info->steps, info->status.steps);
    if (r == 0 && came_up(&info->status)) {
        snprintf(info->state, sizeof(info->state), "%s", info->status.state);
        release(&supervisor);
        if (c->transient)
            info->tether = TAKE_FD(ours);
        return 0;
    }
    fd_closep(&ours);
    abandon(&supervisor, r == -EINTR ? 1000 : 5000);
    if (r == 0)
        r = failed(&info->status, dirfd, run, err);
    else if (r == -EINTR)
        mvm_error_set(err, r, "interrupted while vm '%s' was starting", run->name);
    else
        mvm_error_set(err, r, "the supervisor of vm '%s' %s", run->name, r == -EPIPE ? "died" : "does not answer");
    if (c->transient || r == -EINTR)
        (void)!vmdir_remove(vms_fd, run->name, clock_deadline(5000), NULL);
    return r;
}

int machine_start(struct home *h, const struct machine_config *c, struct progress *p, struct machine_info *info,
                  struct mvm_error *err)
{
    uint64_t start_mono = clock_now(), since;
    int r = vmdir_check_name(c->name, err);
    info->steps.n = 0;
    if (r < 0)
        return r;
    CLEAN_FREE struct runfile *run = calloc(1, sizeof(*run));
    if (!run)
        return mvm_error_errno(err, -ENOMEM, "vm");
    CLEAN_FD int vms = vmdir_open_all(h, err);
    CLEAN_FD int dir = -1;
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    r = vms < 0 ? vms : fill_runfile(run, h, c, start_mono, err);
    steps_add(&info->steps, "acceleration", start_mono);
    since = clock_now();
    if (r == 0)
        r = vmdir_create(vms, c->name, &lock, &dir, err);
    steps_add(&info->steps, "vm-folder", since);
    if (r == 0) {
        progress_verbose(p, "acceleration: %s: %s", run->accel.name, run->accel.reason);
        r = start_in_dir(h, c, vms, dir, &lock, run, info, err);
    }
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
        /* Started nothing: leave no empty folder. */
        if (dir >= 0 && lock.fd >= 0) {
            lock_done(&lock);
            (void)!vmdir_remove(vms, c->name, 0, NULL);
        }
    }
    return r;
}
