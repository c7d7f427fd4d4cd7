/*
 * A virtual machine as commands see it: starting, listing, stopping. Its folder: vmdir/vmdir.h.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "host/progress.h"
#include "vmdir/runfile.h"
#include "vmm/vmm.h"
#include "wire/msg.h"

#include <stdbool.h>
#include <stdint.h>

struct machine_config {
    const char *name; /* vmdir_check_name() */
    enum vm_role role;
    const char *image;        /* absolute path of the folder with vmlinux, rootfs.ext4, ... */
    const char *image_digest; /* "" for a builder */
    const char *hypervisor;   /* NULL: default */
    const char *store_disk;   /* builder: absolute path of the /nix disk */
    bool store_check;         /* it was not closed in order: the guest checks it before use */
    const char *hostname;     /* NULL: name */
    const char *network;      /* what it may reach (runfile.network); NULL or "": what config.toml says */
    const char
        *member_of; /* the network (vmdir/networks.h) that it is a member of, whose policy counts; NULL or "": none */
    const char *network_limits; /* runfile.network_limits; NULL or "": none */
    const char *pcap;           /* absolute path of a file of ours that its frames are added to; NULL: none */
    uint64_t memory_mib;
    unsigned vcpus;
    uint64_t timeout_ms; /* to ready */
    uint64_t idle_ms;    /* stops by itself when it has had no client for so long; 0: never */
    int hold_fd;         /* not 0: a descriptor that the supervisor holds for its life (a lock) */
    enum runfile_counting counting;
    enum runfile_ready ready;
    uint64_t settle_ms; /* services have to stay ready for so long, or a quarter of what the start took */
    bool cold;          /* boots, whatever snapshot there is */
    bool verify;        /* a snapshot is read before it is restored, whatever the stat index knows */
    const char *state;  /* absolute path: continues from this (snapshot.h) or not at all; NULL: none */
    bool transient;     /* removed with its folder when its starter's connection or the VM ends */
};

struct machine_info {
    char name[VMDIR_MAX_NAME + 1];
    char role[16];
    char state[16]; /* as in msg_status, or of its services; "stopped", or "not responding": its supervisor does not
                       answer */
    bool running;   /* it has a supervisor */
    char image[65];
    char backend[32];
    char network[4096];       /* as in runfile, */
    char network_limits[128]; /* and these */
    char member_of[64];
    unsigned member;
    struct vmm_accel accel;
    uint64_t memory_mib;
    unsigned vcpus;
    uint64_t started_at;      /* CLOCK_REALTIME ns */
    pid_t supervisor;         /* 0 where not running */
    struct msg_status status; /* of a running one */
    char ended[256];          /* of a stopped one, "" if unknown */
    bool vanished;            /* of a stopped one: nobody asked for its end, nor did the guest announce it */
    struct steps steps;       /* from machine_start: what its start consisted of, the supervisor's part last */
    unsigned own_steps;       /* how many of them are this process's */
    int tether; /* from machine_start of a transient VM: closing it (or dying) ends the VM; else -1. The caller's. */
};

/* Starts a VM and waits until its agent is configured and, as c->ready says, its services are ready. -EEXIST where one
 * of that name runs. Failures to get ready (phase runtime-backend) name the backend log, the kernel command line and
 * the console's last lines in err->detail, and leave nothing running; the folder stays for `logs` unless transient.
 * info receives the facts, timings in info->status; where the guest itself failed, info->status says how (store:
 * STORE_BROKEN). */
int machine_start(struct home *h, const struct machine_config *c, struct progress *p, struct machine_info *info,
                  struct mvm_error *err) MVM_MUST_CHECK;

/* The facts about one VM (-ENOENT) or all of them (sorted by name; the caller frees *ret); builders are the user's
 * business only where they ask for them. All supervisors are asked at the same time: those that do not answer cost one
 * wait of 1.5 s in all. */
int machine_inspect(struct home *h, const char *name, struct machine_info *ret, struct mvm_error *err) MVM_MUST_CHECK;
int machine_list(struct home *h, bool builders, struct machine_info **ret, size_t *ret_n,
                 struct mvm_error *err) MVM_MUST_CHECK;

/* Stops a VM (guest asked, then VMM, then killed) and removes its folder. -ENOENT where there is none. grace_ms bounds
 * the guest's part. Returns as soon as it is gone. */
int machine_stop(struct home *h, const char *name, uint64_t grace_ms, struct mvm_error *err) MVM_MUST_CHECK;

/* After a VM did not do what it was asked: where it is paused, says how it goes on. */
void machine_hint_paused(struct home *h, const char *name, struct mvm_error *err);

/* A free name made from base: base, base-2, base-3, ... (not reserved: starting still decides). */
int machine_pick_name(struct home *h, const char *base, char ret[static VMDIR_MAX_NAME + 1],
                      struct mvm_error *err) MVM_MUST_CHECK;
