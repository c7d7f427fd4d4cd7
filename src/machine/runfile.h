/* run.json: what a VM was started with. Written by the starter, read by the supervisor and by `ls`; sealed
 * (json_save_sealed), because it says what boots. */
#pragma once

#include "machine/machine.h"

struct runfile {
    char name[MACHINE_MAX_NAME + 1];
    char role[16];
    char image[65]; /* digest, "" for a builder */
    char backend[32];
    char hostname[65];
    char image_path[4096];
    char store_disk[4096]; /* "" for none */
    char snapshots[4096];  /* MVM_CACHE_DIR/snapshots; "" for a VM that shall boot */
    char cold_reason[256]; /* why it shall boot */
    char state[4096];      /* the state that it continues from, of a user's snapshot or a fork; "" for none */
    struct vmm_accel accel;
    uint64_t memory_mib;
    uint64_t vcpus;
    uint64_t timeout_ms;
    uint64_t idle_ms;
    uint64_t started_at; /* CLOCK_REALTIME ns */
    uint64_t start_mono; /* CLOCK_MONOTONIC ns: where timings count from */
    uint64_t counting;   /* enum machine_counting */
    uint64_t ready;      /* enum machine_ready */
    uint64_t settle_ms;  /* how long services have to stay ready before the starter is told */
    bool transient;
    bool verify;      /* a snapshot is read before it is restored */
    bool confine;     /* the VMM is not started where it cannot be confined */
    bool store_check; /* the guest is to check the store's disk before use */
};

int runfile_save(const struct runfile *r, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
/* -ENOENT, -EINVAL where it is damaged or of another version, and what reading gives. */
int runfile_load(struct runfile *r, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
