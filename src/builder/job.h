/* One build job in a builder session: the flake goes in, artifacts come out. */
#pragma once

#include "base/error.h"
#include "builder/builder_session.h"
#include "builder/nix_settings.h"
#include "buildlog/buildlog.h"
#include "flake/flake.h"
#include "host/progress.h"
#include "image/manifest.h"

struct job_opts {
    const struct flake_ref *ref;
    struct flake_tree *tree; /* NULL for a remote reference; what the builder has of it is noted in its files */
    struct flake_inputs *inputs;
    const char *attr, *system;
    bool offline;
    const struct nix_settings *settings; /* NULL: none */
    bool builder_image;                  /* manifest.json is an artifact too */
    unsigned max_jobs;                   /* it waits while this many run in the builder; 0: the builder's default */
    int stage_fd;                        /* artifacts are written here */
    struct buildlog *log;
};

struct job_result {
    struct manifest manifest; /* sizes and digests of what is in the stage */
    char store_path[512];
    uint64_t eval_ns, build_ns;
    struct buf lock; /* flake.lock where Nix changed it; empty otherwise */
};

/* Errors carry the phase of the step that failed. An interrupt resets the job in the guest: -EINTR. */
int job_run(struct builder_session *s, const struct job_opts *o, struct progress *p, struct job_result *ret,
            struct mvm_error *err) MVM_MUST_CHECK;
void job_result_done(struct job_result *r);
