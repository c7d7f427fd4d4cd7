/*
 * The persistent builder: one builder VM named "builder" that stays between builds, serves several clients at once and
 * stops itself when nobody has asked for anything for a while. Its supervisor holds the store's lock as long as it
 * runs. MVM_HOME/run/persistent-builder.json (0600) records what it was started for; the VM's own lock, not the record,
 * says whether it runs, and a record without a VM is removed.
 */
#pragma once

#include "base/error.h"
#include "builder/builder_vm.h"
#include "host/progress.h"

#define PERSISTENT_NAME            "builder"
#define PERSISTENT_DEFAULT_IDLE_MS (10 * 60 * 1000)

/* What is known about it. */
struct persistent_status {
    char state[16];   /* "absent", or as in machine_info */
    char image[65];   /* digest of what it was started from, "" if unknown */
    char mode[16];    /* "warm", "cold" */
    bool stale;       /* a record was there without a VM, and is gone now */
    bool held;        /* by `dev up`: it does not stop by itself */
    unsigned clients; /* connections, this one not counted */
    uint64_t idle_ms; /* 0: it does not stop by itself */
    uint64_t started_at;
    pid_t supervisor;
    uint64_t memory_mib;
    unsigned vcpus;
    char workspace[4096]; /* "" if none */
};

int persistent_status(struct home *h, struct persistent_status *ret, struct mvm_error *err) MVM_MUST_CHECK;

/* Connects v to it, starting it where it does not run, and anew where it runs another image and nobody uses
 * it. -EBUSY, and whatever starting it gives, with the reason as the message: the caller falls back to a builder of its
 * own. */
int persistent_connect(struct builder_vm *v, const struct builder_vm_opts *o, struct mvm_error *err) MVM_MUST_CHECK;

/* What `start --workspace` and `dev up` leave in the record. NULL: as it was. held: 1, 0, or -1: as it was. */
int persistent_note(struct builder_vm *v, const char *workspace, int held, struct mvm_error *err) MVM_MUST_CHECK;

/* Has it stop as soon as no session uses it, held or not: what a job brings does not stay in its memory. */
int persistent_end_unused(struct builder_vm *v, struct mvm_error *err) MVM_MUST_CHECK;

/* Stops it in an orderly way. -ENOENT where it does not run. */
int persistent_stop(struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
