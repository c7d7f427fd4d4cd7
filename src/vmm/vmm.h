/*
 * The backend interface: a config struct goes in, a VMM process comes out. Builder and runtime use it alike.
 * One file per backend (qemu.c); probe.c says what this host can really run.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/process.h"
#include "host/sha256.h"
#include "jail/jail.h"

#include <stdbool.h>
#include <stdint.h>

/* What executes the guest's instructions, and why it was chosen. */
struct vmm_accel {
    char name[8];     /* "kvm", "tcg" */
    char reason[160]; /* one clause: "kvm ran 4,000 guest instructions in 0.1 ms", "kvm takes 190 ns an instruction
                         here" */
    uint64_t tsc_khz; /* the host's TSC frequency for the guest's kernel; 0 where unknown */
};

struct vmm_disk {
    const char *path;
    bool read_only;
    bool discard; /* punch holes where the guest discards */
};

#define VMM_MAX_DISKS 8

enum vmm_net {
    VMM_NET_NONE,
    VMM_NET_USER, /* user-mode NAT: guest 10.0.2.15/24, gateway 10.0.2.2, DNS 10.0.2.3 */
};

struct vmm_config {
    const char *name;        /* of the VM: for messages and the process's title */
    const char *kernel;      /* uncompressed ELF with a PVH note; unused where `incoming` */
    const char *initrd;      /* NULL: none */
    bool devices_on_cmdline; /* the kernel looks for its devices there, not in ACPI's tables */
    const char *cmdline;     /* what the image and the role want; the backend adds console, clock and reboot settings */
    struct vmm_disk disks[VMM_MAX_DISKS]; /* vda, vdb, ... */
    unsigned n_disks;
    uint64_t memory_mib;
    unsigned vcpus;
    int memory_fd;      /* the guest's memory is this file (-1: anonymous memory): */
    bool memory_shared; /* ... written to it, for a snapshot; else the VM's own copy on write */
    bool incoming;      /* does not boot: waits for vmm_ops.restore */
    enum vmm_net net;
    struct vmm_accel accel;
    bool count;     /* the guest's clock counts instructions, a thousand million a second; software emulation only */
    bool initcalls; /* the guest's kernel notes what each of its initcalls takes */
    int channel_fd; /* connected stream socket: the guest's mvm.agent port */
    int console_fd; /* connected stream socket: the console's output */
    int control_fd; /* connected stream socket: the backend's own control protocol */
    int log_fd;     /* the VMM's stderr */
    int cgroup_fd;  /* the folder of the cgroup that it is born in; 0: the caller's */
    bool sibling;   /* it becomes a child of the caller's parent, which is a subreaper */
    bool confine;   /* it is not started where it cannot be confined (jail.h) */
};

/* What a snapshot depends on besides the image: equal texts, or it does not fit. */
struct vmm_identity {
    char backend[192];             /* the VMM's own program */
    char machine[SHA256_HEX_SIZE]; /* processors, memory, devices, firmware, kernel command line */
    char cpu[SHA256_HEX_SIZE];     /* the host processor's model and features where the guest sees them, else "" */
};

enum vmm_event {
    VMM_NOTHING,
    VMM_COMPLETED, /* saving or restoring */
    VMM_FAILED,    /* either, or `pause` */
    VMM_STOPPED,   /* the guest's processors stand still; while it is saved or restored, too */
    VMM_RUNNING,   /* they run */
    VMM_NOT_YET,   /* `resume` came too early: again */
    VMM_HALTED,    /* the guest's processors have halted and nothing wakes them (`ask_halted`) */
};

/* What the VMM said over its control socket and nobody has judged yet. */
struct vmm_control {
    struct buf in;
    bool ended_by_host; /* it ends, and not because of the guest */
};

#define VMM_CONTROL_INIT                                                                                               \
    {                                                                                                                  \
        .in = BUF_INIT(256 * 1024)                                                                                     \
    }

struct vmm_ops {
    const char *name;
    /* 0 if it can run here, else -errno with what is missing and what to install. */
    int (*available)(struct mvm_error *err);
    /* The program's own account of its version, one line. */
    int (*version)(char *out, size_t size, struct mvm_error *err);
    /* Starts the VMM; it dies with the calling thread, or its parent. -EXDEV where it cannot be born in the cgroup. The
     * config's descriptors stay the caller's. */
    int (*start)(const struct vmm_config *c, struct process *ret, struct jail_report *ret_jail, struct mvm_error *err);
    /* What would be in force around this VMM, found out by running its program in the jail for a moment. */
    int (*confinement)(struct jail_report *ret, struct mvm_error *err);
    /* Asks the VMM itself, over its control socket (nonblocking), to end now. */
    int (*quit)(int control_fd);
    /* What a VMM started with that config would be. */
    int (*identity)(const struct vmm_config *c, struct vmm_identity *ret, struct mvm_error *err);
    /* Begins to write the devices' state to the file; when `read` says VMM_COMPLETED the guest stands still and the
     * memory file is what belongs to that state; at VMM_FAILED it goes on. whole: the guest's memory is written too,
     * for the most part while the guest runs; it may be resumed afterwards, and saved again. */
    int (*save)(int control_fd, int state_fd, bool whole);
    /* To a VMM started with `incoming`, at once: read the state from the file, and run, unless the guest stood still
     * when it was saved. A VMM that cannot says VMM_FAILED or ends. Once for a VMM. */
    int (*restore)(int control_fd, int state_fd, bool whole);
    /* Gives up saving: VMM_FAILED or, if it was too late, VMM_COMPLETED follows. */
    int (*cancel)(int control_fd);
    /* What is left to save is written while the guest stands still (VMM_STOPPED follows), however much it is. A guest
     * that is being saved is not paused instead. */
    int (*hurry)(int control_fd);
    /* The processors stand still (VMM_STOPPED follows), or go on (VMM_RUNNING, or VMM_NOT_YET). */
    int (*pause)(int control_fd);
    int (*resume)(int control_fd);
    /* Asks whether the guest's processors have all halted with interrupts off; only where it is so VMM_HALTED follows.
     */
    int (*ask_halted)(int control_fd);
    /* The next thing that came to pass in the bytes of c->in (which it uses up); the caller appends. */
    enum vmm_event (*read)(struct vmm_control *c, char *problem, size_t size);
};

/* The backend of that name, or the default one where name is NULL. -EINVAL with the list of names. Names that the guide
 * knows and this build has no backend for (firecracker, libkrun, apple-container, ...) are refused with what is
 * missing. */
int vmm_find(const char *name, const struct vmm_ops **ret, struct mvm_error *err) MVM_MUST_CHECK;
extern const struct vmm_ops vmm_qemu;
/* All backends, NULL-terminated: for `doctor`. */
extern const struct vmm_ops *const vmm_all[];

/*
 * Chooses the accelerator: KVM only after it has run a small guest at hardware speed. The verdict is kept in
 * `state_fd`/run/accel.json for this boot of this kernel (boot id, kvm device's numbers), because running the probe
 * takes up to its timer's 50 ms. force NULL, "kvm" or "tcg" (MVM_ACCEL): "kvm" fails where the probe does not believe
 * it.
 */
int vmm_choose_accel(int state_fd, const char *force, struct vmm_accel *ret, struct mvm_error *err) MVM_MUST_CHECK;
