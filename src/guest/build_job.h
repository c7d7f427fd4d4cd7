/*
 * A build job as the files that serve it share it: build.c has the order of its steps, build_input.c what comes from
 * the host, nix.c runs Nix, build_output.c sends what came of it. A step that fails answers and ends the process.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "guest/cgroup.h"
#include "wire/msg_build.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUILD_JOB_MAX_LOCK (4u << 20)
#define NIX_MAX_ARGS       96

struct nix_args {
    const char *v[NIX_MAX_ARGS];
    size_t n;
};

struct build_job {
    int sock;
    unsigned id;
    const struct msg_build *m;
    char work[64], source[80], tmpdir[96], ref[9000];
    struct nix_args options; /* for every Nix */
    struct cgroup cgroup;
    bool too_many;           /* processes: Nix was ended */
    char evaluation_end[64]; /* what Nix's log has when it has evaluated, or could not */
    bool evaluated;          /* that was seen */
    uint64_t built_at;       /* when Nix turned to building; 0 before */
    struct msg_result result;
    struct buf tail;             /* newest lines of Nix's log */
    struct buf before;           /* flake.lock as it came */
    char lock[80], new_lock[80]; /* what Nix goes by, and what it makes of that */
};

/* Tells the host which phase begins. */
void build_job_phase(struct build_job *j, const char *name);
/* Keeps the newest lines of Nix's log. */
void build_job_keep(struct build_job *j, const char *p, size_t n);
/* Answers with the job's result, and ends. */
void build_job_finish(struct build_job *j) __attribute__((noreturn));
/* The same with a failure. */
void build_job_fail(struct build_job *j, enum mvm_phase phase, uint64_t code, const char *fmt, ...) MVM_PRINTF(4, 5)
    __attribute__((noreturn));
/* The same where e (an errno) says that the builder's disk is full or fails; returns where it says anything else. */
void build_job_check_disk(struct build_job *j, int e);
/* The same with the kind of failure, which the host would have to guess. */
#define FAIL_KIND(j, kind_, ...)                                                                                       \
    do {                                                                                                               \
        snprintf((j)->result.kind, sizeof((j)->result.kind), "%s", kind_);                                             \
        build_job_fail(j, __VA_ARGS__);                                                                                \
    } while (0)
