/*
 * A build from the user's side: judge the cache, else start a builder session, run the job, bring the artifacts into
 * the cache and write the record.
 */
#pragma once

#include "base/error.h"
#include "builder/builder_image.h"
#include "builder/builder_session.h"
#include "cache/artifacts.h"
#include "flake/flake.h"
#include "host/progress.h"

#include <stdbool.h>

struct build_opts {
    const char *ref;     /* --flake */
    const char *profile; /* NULL: "default" */
    const char *attr;    /* whole attribute path; NULL: packages.<system>.<profile> */
    const char *system;  /* NULL: this host's, as Linux ("x86_64-linux") */
    bool force;          /* build even where the cache has it */
    bool write_lock;
    bool offline;
    char *allow[FLAKE_MAX_ALLOW]; /* --allow-input; borrowed */
    size_t n_allow;
    bool single_shot;            /* --no-persistent-builder */
    bool verify;                 /* read every byte of the images instead of trusting the stat index */
    unsigned max_jobs;           /* it waits while this many builds run in the builder; 0: the builder's default */
    uint64_t builder_memory_mib; /* 0: default */
    unsigned builder_vcpus;      /* 0: default */
    struct steps *steps;         /* NULL, or where build_find_last notes what it does; borrowed */
};

struct build_result {
    bool cached;
    struct builder_image_report builder; /* kind NULL where no builder was needed */
    bool persistent;                     /* built in the persistent builder */
    char fallback_reason[256];           /* why not, where it was wanted */
    struct artifact_image image;         /* open and verified */
    char store_path[512];
    char attr[512];
    char *ref; /* owned */
};

#define BUILD_RESULT_INIT                                                                                              \
    {                                                                                                                  \
        .image = ARTIFACT_IMAGE_INIT                                                                                   \
    }
#define CLEAN_BUILD_RESULT CLEANUP(build_result_done)

/* Builds, or finds the unchanged result. SIGINT and SIGTERM (base/interrupt.h)
 * cancel with -EINTR, leaving nothing behind. */
int build_run(const struct build_opts *o, struct home *h, struct progress *p, struct build_result *ret,
              struct mvm_error *err) MVM_MUST_CHECK;
/* What flakes may have from outside of their trees: the n paths that --allow-input named, and config.toml's. */
int build_load_allowed(struct flake_allow *a, char *const *v, size_t n, struct home *h,
                       struct mvm_error *err) MVM_MUST_CHECK;
/* Connects a session to the persistent builder, its image built and it started where needed: for `dev` and the
 * low-level controls. */
int build_open_persistent(struct home *h, struct progress *p, struct builder_session *s,
                          struct mvm_error *err) MVM_MUST_CHECK;
/* The image last built from a reference: for `up --flake`. -ENOENT with a hint naming `mvmctl build` and `mvmctl run`.
 */
int build_find_last(const struct build_opts *o, struct home *h, struct artifact_image *ret,
                    struct mvm_error *err) MVM_MUST_CHECK;
void build_result_done(struct build_result *r);
