/*
 * Apple's Virtualization framework, by vfkit: virtio over PCI, the agent over virtio sockets, no saved states that
 * could be asked for. It is not put into our jail: the machine itself runs in a process of Apple's, which Apple
 * confines, and there is no jail on macOS. On Linux there is a stand-in of the tests alone.
 */
#include "vmm/vfkit.h"
#include "base/fd.h"
#include "host/os.h"
#include "vmm/socket_vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "vfkit"
#define OLDEST  6 /* 0.6: earlier ones have no disk that is only read */

static const struct program program = {
    .name = PROGRAM, .hint = "install " PROGRAM " 0.6 or later (macOS only), and put it on PATH", .sockets = true};

static int version(char *out, size_t size, struct mvm_error *err)
{
    return program_version(&program, out, size, err);
}

static int check_guest(const char *arch, struct mvm_error *err)
{
    if (!vmm_is_foreign(arch))
        return vfkit_host(err);
    mvm_error_set(err, -ENOTSUP, "apple-container runs guests of this machine's architecture, and the image is for %s",
                  arch);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err, "--hypervisor qemu emulates other machines");
    return -ENOTSUP;
}

/* "vfkit version: v0.6.1". */
static int available(const char *arch, struct mvm_error *err)
{
    char text[128];
    unsigned major = 0, minor = 0;
    int r = check_guest(arch, err);
    if (r == 0)
        r = program_available(&program, err);
    if (r == 0)
        r = version(text, sizeof(text), err);
    if (r < 0)
        return r;
    if (sscanf(text, "vfkit version: v%u.%u", &major, &minor) == 2 && (major > 0 || minor >= OLDEST))
        return 0;
    mvm_error_set(err, -ENOTSUP, "%s: 0.%d or later is needed", text, OLDEST);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err, "%s", program.hint);
    return -ENOTSUP;
}

static void report_jail(struct jail_report *ret)
{
    *ret = (struct jail_report){0};
    snprintf(ret->missing, sizeof(ret->missing), "%s is not confined: Apple confines the process that has the guest",
             PROGRAM);
}

static int confinement(struct jail_report *ret, struct mvm_error *err)
{
    report_jail(ret);
    return 0;
}

static int takes_kernel(const char *arch, unsigned offers, struct mvm_error *err)
{
    if (offers & KERNEL_OFFER(KERNEL_PCI) && offers & KERNEL_OFFER(KERNEL_VSOCK))
        return 0;
    return vmm_refuse_kernel(offers, "apple-container wants vsock and pci", err);
}

/* No state of it is saved that could depend on anything. */
static int identity(const struct vmm_config *c, struct vmm_identity *ret, struct mvm_error *err)
{
    return program_identity(&program, ret->backend, sizeof(ret->backend), err);
}

/* It takes none. */
static int lock_disk(int disk_fd, bool wait)
{
    return -ENOTSUP;
}

static int restore(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    return vfkit_save(v, state_fd, whole, d);
}

/* A console that is read and written by descriptors has to be a terminal where it is read from: one that nobody writes
 * to, whose other end vfkit keeps open itself. */
struct terminal {
    int ours, theirs;
};

static void terminal_done(struct terminal *t)
{
    fd_closep(&t->ours);
    fd_closep(&t->theirs);
}

static int open_terminal(struct terminal *t)
{
    t->ours = posix_openpt(O_RDWR | O_NOCTTY);
    if (t->ours < 0 || fd_set_cloexec(t->ours, true) < 0 || grantpt(t->ours) < 0 || unlockpt(t->ours) < 0)
        return -errno;
    const char *name = ptsname(t->ours);
    t->theirs = name ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
    return t->theirs < 0 ? -errno : 0;
}

#define NONE      "00000000"
#define ONE_LINK  "00000001"
#define NAME_SIZE "0000000B"
/* vfkit boots no kernel without an initrd: this one is an archive of nothing, from which a kernel goes on to its root
 * (kernel: Documentation/driver-api/early-userspace/buffer-format.rst). */
static int put_initrd(int folder)
{
    static const char archive[512] =
        "070701" NONE NONE NONE NONE ONE_LINK NONE NONE NONE NONE NONE NONE NAME_SIZE NONE "TRAILER!!!";
    CLEAN_FD int fd = openat(folder, SOCKET_VMM_INITRD, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd_write_all(fd, archive, sizeof(archive));
}

static int start_program(const struct vmm_config *c, const char *const *argv, int folder, struct process *ret,
                         struct mvm_error *err)
{
    CLEANUP(terminal_done) struct terminal t = {-1, -1};
    int r = open_terminal(&t);
    if (r < 0)
        return mvm_error_errno(err, r, "a terminal for the guest's console");
    const int keep[] = {folder, t.ours, c->frames_fd};
    const struct process_opts o = {
        .argv = argv,
        .stdin_fd = t.theirs,
        .stdout_fd = c->console_fd,
        .stderr_fd = c->log_fd,
        .keep_fds = keep,
        .n_keep_fds = c->net == VMM_NET_FRAMES ? 3 : 2,
        .cgroup_fd = c->cgroup_fd,
        .die_with_parent = true,
        .sibling = c->sibling,
    };
    return process_start(&o, ret, err);
}

static int check(const struct vmm_config *c, struct mvm_error *err)
{
    if (c->confine)
        return mvm_error_set(err, -ENOSYS, "the VMM cannot be confined: there is no jail for " PROGRAM);
    if (c->incoming || c->count)
        return mvm_error_set(err, -ENOTSUP, "apple-container neither continues a guest nor counts instructions");
    int r = takes_kernel(c->arch, c->kernel_offers, err);
    return r < 0 ? r : vfkit_check_kernel(c->kernel, os_arch(), err);
}

static int start(const struct vmm_config *c, struct vmm_started *ret, struct mvm_error *err)
{
    CLEANUP(vfkit_args_done) struct vfkit_args args = {0};
    CLEAN_FD int listener = -1;
    CLEAN_FD int folder = -1;
    int r = check(c, err);
    if (r == 0)
        r = folder = socket_vmm_prepare(c, &listener, err);
    if (r < 0)
        return r;
    r = put_initrd(folder);
    if (r < 0)
        return mvm_error_errno(err, r, "the VMM's folder");
    r = vfkit_args(&args, c, folder, err);
    if (r == 0)
        r = start_program(c, (const char *const *)args.v, folder, &ret->process, err);
    if (r < 0)
        return r;
    report_jail(&ret->jail);
    r = ret->control_fd = socket_vmm_connect(&ret->process, folder, err);
    if (r < 0) {
        process_done(&ret->process);
        return r;
    }
    ret->listen_fd = TAKE_FD(listener);
    return 0;
}

const struct vmm_ops vmm_vfkit = {
    .name = "apple-container",
    .caps = {.card = true},
    .available = available,
    .version = version,
    .confinement = confinement,
    .identity = identity,
    .takes_kernel = takes_kernel,
    .lock_disk = lock_disk,
    .start = start,
    .open = vfkit_open,
    .input = vfkit_input,
    .facts = vfkit_facts,
    .pause = vfkit_pause,
    .resume = vfkit_resume,
    .save = vfkit_save,
    .restore = restore,
    .ask_halted = vfkit_ask_halted,
    .cancel = vfkit_cannot,
    .hurry = vfkit_cannot,
    .quit = vfkit_quit,
    .ended = vfkit_ended,
    .mute = vfkit_mute,
    .free = vfkit_free,
};
