/*
 * A builder session: a builder VM that runs, and a connection to it. Kept apart from the job (job.h), so that a session
 * can serve many jobs.
 */
#pragma once

#include "base/error.h"
#include "base/progress.h"
#include "builder/provided.h"
#include "builder/store.h"
#include "cache/home.h"
#include "machine/client.h"
#include "machine/machine.h"

struct session {
    struct home *home;
    struct progress *progress; /* the caller's */
    char name[MACHINE_MAX_NAME + 1];
    int tether; /* the VM ends when this is closed */
    struct client *client;
    struct provided_flakes flakes; /* what its registry provides */
    struct store store;
};

#define SESSION_INIT                                                                                                   \
    {                                                                                                                  \
        .tether = -1, .store = STORE_INIT                                                                              \
    }
#define CLEAN_SESSION CLEANUP(session_done)

struct session_opts {
    const char *image;   /* absolute path of the image's folder: the builder's (bootstrap.h), or a stage 0 seed */
    uint64_t memory_mib; /* 0: default */
    unsigned vcpus;      /* 0: default */
    uint64_t store_cap;  /* bytes; 0: store_cap() decides */
};

/* Starts a builder from the image with the persistent store disk (store.h), which is made anew where the guest finds it
 * beyond repair. Waits where another mvmctl builds, saying for whom. Errors: phase builder-bootstrap. */
int session_start(struct session *s, struct home *h, const struct session_opts *o, struct progress *p,
                  struct mvm_error *err) MVM_MUST_CHECK;

/* Ends the session: powers the builder off in an orderly way, its store tidied. */
void session_done(struct session *s);
