/*
 * A builder session: a builder VM that runs, and a connection to it. Kept apart from the job (job.h), so that a session
 * can serve many jobs. By default the VM is the persistent builder (persistent.h), which outlives the session and
 * serves others beside; where that cannot be, or is not wanted, it is one of the session's own (single-shot). Two VMs
 * never write to one disk: where the persistent builder has the store, a single-shot one gets a copy.
 */
#pragma once

#include "base/error.h"
#include "builder/local_kernels.h"
#include "builder/store_disk.h"
#include "cache/home.h"
#include "flake/registry.h"
#include "host/progress.h"
#include "machine/client.h"
#include "machine/machine.h"

struct builder_session {
    struct home *home;
    struct progress *progress; /* the caller's */
    char name[VMDIR_MAX_NAME + 1];
    bool persistent;
    char fallback_reason[256]; /* why it is not, where it was asked for; "" otherwise */
    int tether;                /* single-shot: the VM ends when this is closed */
    struct client *client;
    struct registry flakes;     /* what its registry provides */
    struct local_kernels known; /* what it need not send back */
    struct store_disk store;
};

#define BUILDER_SESSION_INIT                                                                                           \
    {                                                                                                                  \
        .tether = -1, .store = STORE_DISK_INIT                                                                         \
    }
#define CLEAN_BUILDER_SESSION CLEANUP(builder_session_done)

struct builder_session_opts {
    const char *image; /* absolute path of the image's folder: the builder's (builder_image.h), or a stage 0 seed */
    const char *image_digest; /* names it; "" for a seed */
    bool single_shot;         /* a VM of its own is wanted */
    uint64_t memory_mib;      /* 0: as config.toml says, or a default */
    unsigned vcpus;           /* the same */
    /* What config.toml decides alone; builder_session_start() fills it in. */
    uint64_t idle_ms;   /* after which a persistent builder that is started now stops by itself; 0: never */
    uint64_t store_cap; /* bytes */
};

/* Reaches or starts a builder from the image with the persistent store disk (store_disk.h), which is made anew where
 * the guest finds it beyond repair. A fallback from the persistent builder is said at normal verbosity. Waits where
 * another mvmctl has the store and no persistent builder runs, saying for whom. Errors: phase builder-bootstrap. */
int builder_session_start(struct builder_session *s, struct home *h, const struct builder_session_opts *o,
                          struct progress *p, struct mvm_error *err) MVM_MUST_CHECK;

/* For persistent.c: boots the VM that stays, under that name, with the session's store. */
int builder_session_boot_persistent(struct builder_session *s, const char *name, const struct builder_session_opts *o,
                                    struct mvm_error *err) MVM_MUST_CHECK;

/* Ends the session, its store tidied: a single-shot builder is powered off in an orderly way. */
void builder_session_done(struct builder_session *s);
