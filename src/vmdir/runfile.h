/* run.json: what a VM was started with. Written by the starter, read by the supervisor and by `ls`; sealed
 * (json_save_sealed), because it says what boots. */
#pragma once

#include "vmdir/vmdir.h"
#include "vmm/vmm.h"
#include "wire/vm_state.h"

/* Whether the guest's clock counts instructions (machine/instruction_count.h). */
enum runfile_counting {
    COUNTING_OFF,
    COUNTING_ON,
    COUNTING_INITCALLS, /* and the kernel notes what its initcalls take, which costs instructions itself */
};

#define RUNFILE_NETWORK "@public"

/* What machine_start waits for. */
enum runfile_ready {
    READY_AGENT,    /* the guest can be reached */
    READY_SERVICES, /* and its services are ready, or have failed, or the time is over: status.services says which */
};

struct runfile {
    char name[VMDIR_MAX_NAME + 1];
    char role[16];
    char image[65]; /* digest, "" for a builder */
    char backend[32];
    char hostname[65];
    char image_path[4096];
    char store_disk[4096];    /* "" for none */
    char snapshots[4096];     /* MVM_CACHE_DIR/snapshots; "" for a VM that shall boot */
    char cold_reason[256];    /* why it shall boot */
    char state[4096];         /* the state that it continues from, of a user's snapshot or a fork; "" for none */
    char network[4096];       /* what the guest may reach, as its network process is told it (net/process.h): layers and
                                 rules, separated by spaces; "" for RUNFILE_NETWORK */
    char network_limits[128]; /* words of the same kind (net/limits.h) */
    char pcap[4096];          /* the file that its frames are written to; "" for none */
    char member_of[64];       /* the network (networks.h) that it is a member of, "" for none: */
    char network_folder[4096]; /* absolute path of its folder */
    uint64_t member;           /* and the VM's number in it */
    struct vmm_accel accel;
    uint64_t memory_mib;
    uint64_t vcpus;
    uint64_t timeout_ms;
    uint64_t idle_ms;
    uint64_t started_at; /* CLOCK_REALTIME ns */
    uint64_t start_mono; /* CLOCK_MONOTONIC ns: where timings count from */
    uint64_t counting;   /* enum runfile_counting */
    uint64_t ready;      /* enum runfile_ready */
    uint64_t settle_ms;  /* how long services have to stay ready before the starter is told */
    bool transient;
    bool verify;      /* a snapshot is read before it is restored */
    bool confine;     /* the VMM is not started where it cannot be confined */
    bool store_check; /* the guest is to check the store's disk before use */
};

/* A VM that may reach nothing, nor other VMs, keeps its card, so that it can have any snapshot of its image, but the
 * card has no link. */
bool runfile_is_unlinked(const struct runfile *r);
int runfile_save(const struct runfile *r, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
/* -ENOENT, -EINVAL where it is damaged or of another version, and what reading gives. */
int runfile_load(struct runfile *r, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
