/*
 * QEMU's microvm machine: direct kernel boot (PVH), virtio-mmio devices that the kernel finds through ACPI or, where
 * there is none, on the command line that QEMU adds to ours (the kernel has to know that way). For aarch64 its virt
 * machine, with devices on PCI that the device tree leads to. Every host end is a descriptor that was connected before
 * QEMU started, so that nothing listens and nobody waits for a socket file to appear. Manual: qemu-system(1);
 * docs/system/i386/microvm.rst, docs/system/arm/virt.rst.
 */
#include "base/buf.h"
#include "base/fd.h"
#include "jail/jail.h"
#include "vmm/program.h"
#include "vmm/qemu_args.h"
#include "vmm/qmp.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int qemu_available(const char *arch, struct mvm_error *err)
{
    return program_available(qemu_program(arch), err);
}

static int qemu_version(char *out, size_t size, struct mvm_error *err)
{
    return program_version(qemu_program(NULL), out, size, err);
}

static int qemu_confinement(struct jail_report *ret, struct mvm_error *err)
{
    return program_confinement(qemu_program(NULL), ret, err);
}

/*
 * QEMU fills some MB of heap while it starts. With large pages, which glibc's malloc takes only when told, that is a
 * third fewer page faults of all until a restored guest is ready; blocks above the threshold would be mappings without
 * them. glibc manual, "Memory Allocation Tunables". What the user has set comes first.
 */
#define TUNABLES "GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"

/* Without confinement: a script in QEMU's place may need anything. */
static int start_plain(const struct vmm_config *c, const struct args *a, struct process *ret, struct mvm_error *err)
{
    CLEAN_FREE const char **env = process_environment(NULL, TUNABLES);
    const int all[] = {c->console_fd, c->control_fd, c->channel_fd, c->net == VMM_NET_FRAMES ? c->frames_fd : -1,
                       c->memory_fd};
    int keep[ARRAY_SIZE(all)];
    size_t n_keep = 0;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i] >= 0)
            keep[n_keep++] = all[i];
    const struct process_opts o = {
        .argv = (const char *const *)a->v,
        .envp = env,
        .stdin_fd = -1,
        .stdout_fd = c->log_fd,
        .stderr_fd = c->log_fd,
        .keep_fds = keep,
        .n_keep_fds = n_keep,
        .cgroup_fd = c->cgroup_fd,
        .die_with_parent = true,
        .sibling = c->sibling,
    };
    return env ? process_start(&o, ret, err) : mvm_error_errno(err, -ENOMEM, "qemu's environment");
}

static int start_jailed(const struct vmm_config *c, const struct args *a, const char *path, struct process *ret,
                        struct jail_report *report, struct mvm_error *err)
{
    const char *tunables = getenv("GLIBC_TUNABLES");
    CLEAN_FREE char *own = NULL;
    if (tunables && asprintf(&own, "GLIBC_TUNABLES=%s", tunables) < 0)
        own = NULL;
    /* A restored VM's memory file is everybody's: opened for reading (preload.c). */
    CLEAN_FREE char *preload = c->memory_fd >= 0 && !c->memory_shared ? jail_own_file("mvm-preload.so") : NULL;
    char load[4200], only[64];
    snprintf(load, sizeof(load), "LD_PRELOAD=%s", preload ? preload : "");
    snprintf(only, sizeof(only), "MVM_READ_ONLY=/proc/self/fd/%d", c->memory_fd);
    const char *const env[] = {own ? own : TUNABLES, "PATH=/usr/bin:/bin", preload ? load : NULL, only, NULL};
    struct jail_file files[VMM_MAX_DISKS + 3] = {
        {c->incoming ? NULL : c->kernel, false}, {c->incoming ? NULL : c->initrd, false}, {preload, false}};
    for (unsigned i = 0; i < c->n_disks; i++)
        files[i + 3] = (struct jail_file){c->disks[i].path, !c->disks[i].read_only};
    const struct jail_fd fds[] = {{.fd = c->console_fd},
                                  {.fd = c->control_fd},
                                  {.fd = c->channel_fd},
                                  {.fd = c->net == VMM_NET_FRAMES ? c->frames_fd : -1},
                                  {.fd = c->memory_fd, .file = true, .write = !preload}};
    const struct jail_spec spec = {
        .program = path,
        .argv = (const char *const *)a->v,
        .envp = env,
        .files = files,
        .n_files = c->n_disks + 3,
        .fds = fds,
        .n_fds = ARRAY_SIZE(fds),
        .device = vmm_accel_emulates(&c->accel) ? NULL : "/dev/kvm",
        .log_fd = c->log_fd,
        .file_bytes = program_largest_file(c),
        .cgroup_fd = c->cgroup_fd,
        .sibling = c->sibling,
        .required = c->confine,
    };
    return jail_start(&spec, ret, report, err);
}

static int qemu_start(const struct vmm_config *c, struct vmm_started *ret, struct mvm_error *err)
{
    CLEANUP(qemu_args_done) struct args a = {0};
    int r = qemu_args(&a, c, err);
    if (r < 0)
        return r;
    CLEAN_FREE char *path = program_find(qemu_program(c->arch), err);
    if (!path)
        return -ENOENT;
    r = start_jailed(c, &a, path, &ret->process, &ret->jail, err);
    if (r == -ENOEXEC && !c->confine)
        return start_plain(c, &a, &ret->process, err);
    if (r == -ENOEXEC || r == -ENOSYS) {
        mvm_error_wrap(err, "the VMM cannot be confined");
        mvm_error_hint(err,
                       "mvmctl doctor says what is missing; boot.confine = \"auto\" in config.toml runs it anyway");
    }
    return r;
}

/* ---- What a snapshot depends on ---- */

/* The arguments themselves, without what differs from one start to the next: names, paths, descriptors, and the clock
 * rate, which is measured anew on each boot of the host. */
static int identify_machine(const struct vmm_config *c, char out[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    struct vmm_config same = *c;
    same.name = same.kernel = "";
    same.initrd = c->initrd ? "" : NULL;
    same.memory_fd = same.channel_fd = same.console_fd = same.control_fd = same.frames_fd = 1;
    same.memory_shared = same.incoming = false;
    same.accel.tsc_khz = c->accel.tsc_khz ? 1 : 0;
    for (unsigned i = 0; i < same.n_disks; i++)
        same.disks[i].path = "";
    CLEANUP(qemu_args_done) struct args a = {0};
    int r = qemu_args(&a, &same, err);
    struct sha256 sha;
    uint8_t digest[SHA256_SIZE];
    sha256_init(&sha);
    for (size_t i = 0; i < a.n; i++)
        sha256_update(&sha, a.v[i], strlen(a.v[i]) + 1);
    sha256_final(&sha, digest);
    sha256_hex(digest, out);
    return r;
}

static int qemu_identity(const struct vmm_config *c, struct vmm_identity *ret, struct mvm_error *err)
{
    int r = program_identity(qemu_program(c->arch), ret->backend, sizeof(ret->backend), err);
    if (r == 0)
        r = program_identify_cpu(&c->accel, ret->cpu, err);
    return r < 0 ? r : identify_machine(c, ret->machine, err);
}

/* ---- What others need to know ---- */

/* QEMU locks single bytes from 100 (what it does) and from 200 on (what others must not do): block/file-posix.c. */
static int qemu_lock_disk(int disk_fd, bool wait)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 200};
    return fcntl(disk_fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

const struct vmm_ops vmm_qemu = {
    .name = "qemu",
    .caps = {.memory_file = true, .snapshots = true, .keeps_agent = true, .card = true},
    .available = qemu_available,
    .version = qemu_version,
    .confinement = qemu_confinement,
    .identity = qemu_identity,
    .takes_kernel = qemu_takes_kernel,
    .lock_disk = qemu_lock_disk,
    .start = qemu_start,
    .open = qmp_open,
    .input = qmp_input,
    .facts = qmp_facts,
    .pause = qmp_pause,
    .resume = qmp_resume,
    .save = qmp_save,
    .restore = qmp_restore,
    .ask_halted = qmp_ask_halted,
    .cancel = qmp_cancel,
    .hurry = qmp_hurry,
    .quit = qmp_quit,
    .ended = qmp_ended,
    .mute = qmp_mute,
    .free = qmp_free,
};
