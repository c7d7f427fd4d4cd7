/*
 * The contract of every backend: a config goes in, a VMM comes out. Builder and runtime use it alike. One file pair per
 * backend (qemu.c, qmp.c); probe.c says what this host can really run. Nothing outside this folder knows which VMM it
 * has, or what that one speaks: what differs is asked for (struct vmm_caps).
 *
 * A VMM is started by one process and spoken to by another (supervisor/launcher.h): `start` makes the process from
 * descriptors that were connected before, or says where it is reached instead; `open` makes the handle for what is
 * spoken there.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/process.h"
#include "host/sha256.h"
#include "image/kernel_offers.h"
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

/* True where instructions are translated, one by one: slow, and no features of the host's processor. */
bool vmm_accel_emulates(const struct vmm_accel *a);

struct vmm_disk {
    const char *path;
    bool read_only;
    bool discard; /* punch holes where the guest discards */
};

#define VMM_MAX_DISKS 8

enum vmm_net {
    VMM_NET_NONE,
    VMM_NET_FRAMES, /* a card, whose frames go to and come from frames_fd */
};

struct vmm_config {
    const char *name;       /* of the VM: for messages and the process's title */
    const char *arch;       /* what the guest's processors are, as os_arch() calls them; NULL: this machine's */
    const char *kernel;     /* uncompressed ELF with a PVH note, or an aarch64 Image; unused where `incoming` */
    const char *initrd;     /* NULL: none */
    unsigned kernel_offers; /* kernel_offers.h: the backend chooses by it, or refuses the kernel */
    const char *cmdline;    /* what the image and the role want; the backend adds console, clock and reboot settings */
    struct vmm_disk disks[VMM_MAX_DISKS]; /* vda, vdb, ... */
    unsigned n_disks;
    unsigned volume_slots; /* vmm_volume_slots() of its volumes */
    uint64_t memory_mib;
    unsigned vcpus;
    int memory_fd;      /* the guest's memory is this file (-1: anonymous memory): */
    bool memory_shared; /* ... written to it, for a snapshot; else the VM's own copy on write */
    bool incoming;      /* does not boot: waits, paused, for vmm_ops.restore */
    enum vmm_net net;
    struct vmm_accel accel;
    bool count;     /* the guest's clock counts instructions, a thousand million a second; software emulation only */
    bool initcalls; /* the guest's kernel notes what each of its initcalls takes */
    int channel_fd; /* connected stream socket: the guest's mvm.agent port */
    int console_fd; /* connected stream socket: the console's output */
    int control_fd; /* connected stream socket: the backend's own control protocol; see `open` */
    int frames_fd;  /* a datagram socket: each Ethernet frame of the guest's card is one datagram */
    const char *mac;
    bool unlinked; /* the card has no link, where the backend can take it away */
    int log_fd;    /* the VMM's stderr */
    int dir_fd;    /* the VM's folder, where a backend may have one of its own; -1: none */
    int cgroup_fd; /* the folder of the cgroup that it is born in; 0: the caller's */
    bool sibling;  /* it becomes a child of the caller's parent, which is a subreaper */
    bool confine;  /* it is not started where it cannot be confined (jail.h) */
};

#define VMM_SET_SIZE 40

/* What a snapshot depends on besides the image: equal texts, or it does not fit. */
struct vmm_identity {
    char set[VMM_SET_SIZE];        /* see vmm_device_set */
    char backend[192];             /* the VMM's own program */
    char machine[SHA256_HEX_SIZE]; /* processors, memory, devices, firmware, kernel command line */
    char cpu[SHA256_HEX_SIZE];     /* the host processor's model and features where the guest sees them, else "" */
};

/* What a backend can do: asked before anything is promised to a user. */
struct vmm_caps {
    bool memory_file; /* a guest that has booted can be continued from: its memory is in a file, or put there */
    bool snapshots;   /* a guest that runs can be saved whole, and goes on */
    bool keeps_agent; /* one that continues has its agent's connection still; else the agent connects again */
    bool card;        /* has a card for the guest's network */
    bool hardware;    /* needs hardware acceleration */
};

/* One that runs; private to its backend. */
struct vmm;

/* What a start gives. A VMM that takes no connected descriptors makes sockets: then it is reached by these, and the
 * other sides of the config's control_fd and channel_fd are of no use. */
struct vmm_started {
    struct process process;
    struct jail_report jail;
    int control_fd; /* connected; -1: the config's */
    int listen_fd;  /* where the guest's agent connects, once; -1: the config's channel */
};

#define VMM_STARTED_INIT                                                                                               \
    {                                                                                                                  \
        .process = PROCESS_INIT, .control_fd = -1, .listen_fd = -1                                                     \
    }

/* Every command that was taken ends here, exactly once; where the VMM ends before, with -EPIPE. Not before the
 * command's function has returned. problem: one clause, "" where r is not negative. */
struct vmm_done {
    void (*done)(void *owner, int r, const char *problem);
    void *owner;
};

/* What can be read off a handle at any time. */
struct vmm_facts {
    uint64_t stopped_at; /* since when the guest's processors stand still, clock_now(); 0: they run */
    bool ended_by_host;  /* it ends, and not because of the guest */
    char problem[160];   /* it cannot run the guest, and does not end by itself; "": nothing of the kind */
};

struct vmm_ops {
    const char *name;
    struct vmm_caps caps;
    /* 0 if it can run guests of that architecture here (NULL: this machine's), else -errno with what is missing and
     * what to install. */
    int (*available)(const char *arch, struct mvm_error *err);
    /* The program's own account of its version, one line. */
    int (*version)(char *out, size_t size, struct mvm_error *err);
    /* What would be in force around this VMM, found out by running its program in the jail for a moment. */
    int (*confinement)(struct jail_report *ret, struct mvm_error *err);
    /* What a VMM started with that config would be. */
    int (*identity)(const struct vmm_config *c, struct vmm_identity *ret, struct mvm_error *err);
    /* -ENOTSUP with what to do where it has no devices for a kernel of that architecture with those kernel_offers. */
    int (*takes_kernel)(const char *arch, unsigned offers, struct mvm_error *err);
    /* Takes the lock by which a VMM has the disk for writing, for as long as the descriptor is open: 0, -errno; where
     * one has it, waits for that one's end, or -EAGAIN. */
    int (*lock_disk)(int disk_fd, bool wait);

    /* Starts the VMM; it dies with the calling thread, or its parent. -EXDEV where it cannot be born in the cgroup. The
     * config's descriptors stay the caller's. */
    int (*start)(const struct vmm_config *c, struct vmm_started *ret, struct mvm_error *err);
    /* The handle of one that was started with that config, apart from its connections. control_fd stays the caller's
     * and is nonblocking: the caller reads it and hands on what came (`input`); the backend only writes. */
    int (*open)(int control_fd, const struct vmm_config *c, struct vmm **ret);
    /* False where that is nothing a VMM may say: it is not to be read any more, its end is what counts then. */
    bool (*input)(struct vmm *v, const void *p, size_t n);
    const struct vmm_facts *(*facts)(const struct vmm *v);

    /* The commands: -errno where one is not taken (then `done` is not called), -EPIPE where the VMM has ended. One of a
     * kind at a time. */
    /* The processors stand still; they run. Resuming one that runs is nothing. */
    int (*pause)(struct vmm *v, struct vmm_done d);
    int (*resume)(struct vmm *v, struct vmm_done d);
    /* Writes the devices' state to the file; when that has worked the guest stands still and the memory file is what
     * belongs to that state. whole: the guest's memory is written too, while the guest runs where that can be done; it
     * may be resumed afterwards, and saved again. Where saving fails the guest may stand still or run. */
    int (*save)(struct vmm *v, int state_fd, bool whole, struct vmm_done d);
    /* To a VMM started with `incoming`, once: reads the state from the file. The guest stands still afterwards,
     * whatever it did when it was saved. A VMM that cannot may end instead of saying so. */
    int (*restore)(struct vmm *v, int state_fd, bool whole, struct vmm_done d);
    /* Asks whether the guest's processors have all halted with interrupts off: r is 1 or 0. */
    int (*ask_halted)(struct vmm *v, struct vmm_done d);

    /* What has no end of its own: -errno where it is not taken. */
    /* Gives up saving, which ends as ever. */
    int (*cancel)(struct vmm *v);
    /* What is left to save is written while the guest stands still, however much it is. A guest that is being saved is
     * not paused instead. */
    int (*hurry)(struct vmm *v);
    /* To end now, by itself. */
    int (*quit)(struct vmm *v);

    /* Its process has ended: ends what is under way. */
    void (*ended)(struct vmm *v);
    /* Nothing of it is to be heard any more: what is under way never ends. */
    void (*mute)(struct vmm *v);
    void (*free)(struct vmm *v); /* NULL is nothing */
};

/* Volumes are put into slots of which there are few numbers, so that VMs of one image have few sets of devices: 0, 1,
 * 2, 4, ... */
unsigned vmm_volume_slots(unsigned volumes);
/* The name of a set of devices under a backend: what a snapshot's name has besides memory and processors, so that VMs
 * of one image that differ in it keep each their own. "" for what every VM had before there were other sets: such
 * snapshots are found by their old names. */
void vmm_device_set(const struct vmm_ops *o, const struct vmm_config *c, char out[static VMM_SET_SIZE]);

/* True where the backend is to be chosen: no name, or VMM_AUTO. */
#define VMM_AUTO "auto"
bool vmm_is_chosen(const char *name);
/* The backend of that name, or the default one where it is to be chosen. -EINVAL with the list of names. Names that the
 * guide knows and this build has no backend for (libkrun, ...) are refused with what is
 * missing. */
int vmm_find(const char *name, const struct vmm_ops **ret, struct mvm_error *err) MVM_MUST_CHECK;
extern const struct vmm_ops vmm_qemu, vmm_firecracker, vmm_vfkit;
/* True where the guest's processors are others than this machine's: they can be emulated alone. */
bool vmm_is_foreign(const char *arch);
/* 0, or why the backend cannot run with that acceleration, or have that network ("none" is nothing): with what could.
 */
int vmm_check_host(const struct vmm_ops *o, const struct vmm_accel *a, bool network,
                   struct mvm_error *err) MVM_MUST_CHECK;
/* Sets -ENOTSUP for a kernel with those offers: wants says what the backend does. */
int vmm_refuse_kernel(unsigned offers, const char *wants, struct mvm_error *err);
/* All backends, NULL-terminated, in the order in which this system prefers them: that is where `auto` looks first. */
extern const struct vmm_ops *const vmm_all[];
/* Their names, and those of the accelerations, for texts that are made when this is compiled. */
#define VMM_BACKENDS "qemu|firecracker|apple-container"
#define VMM_DEFAULT  "qemu"
#define VMM_ACCELS   "kvm or tcg"

/*
 * Chooses the accelerator: KVM only after it has run a small guest at hardware speed. The verdict is kept in
 * `state_fd`/run/accel.json for this boot of this kernel (boot id, kvm device's numbers), because running the probe
 * takes up to its timer's 50 ms. force NULL, "kvm" or "tcg" (MVM_ACCEL): "kvm" fails where the probe does not believe
 * it.
 */
int vmm_choose_accel(int state_fd, const char *force, struct vmm_accel *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* The same for a guest with those processors: others than this machine's are emulated, and a forced "kvm" fails. */
int vmm_choose_accel_for(const char *arch, int state_fd, const char *force, struct vmm_accel *ret,
                         struct mvm_error *err) MVM_MUST_CHECK;
/* What MVM_ACCEL is to be for software emulation. */
extern const char vmm_emulation[];
/* How long the host takes to make a VM with hardware acceleration, in ms; negative where there is none. hint (static):
 * what helps where it is long. */
double vmm_creation_ms(const char **ret_hint);
