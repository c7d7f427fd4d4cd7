/*
 * A run of measurements: one or more sides, which take turns, so that what disturbs this machine disturbs all of them.
 * A sample of
 *
 *   a boot      starts a VM that is removed again, from the first step of the start to the configured agent; with
 *               `count`, in guest instructions from reset to the agent's hello
 *   an exec     runs a program in a VM that runs already, from connecting to the program's exit
 *   a build     builds the flake in the persistent builder although its result is there
 *   a baseline  runs another program from starting it to its end
 *
 * Phases of a sample are kept apart, and what is no part of it (making the first snapshot, starting the builder or the
 * VM of an exec, stopping VMs) is in none of them. docs/bench.md.
 */
#pragma once

#include "bench/stats.h"
#include "bench/subject.h"
#include "host/progress.h"
#include "machine/client.h"
#include "machine/instruction_count.h"

#define BENCH_MAX_SIDES   3
#define BENCH_MAX_PHASES  16
#define BENCH_MAX_SAMPLES 100000

enum bench_kind { BENCH_BOOT, BENCH_EXEC, BENCH_BUILD, BENCH_BASELINE };

struct bench_phase {
    char name[32];
    struct samples samples; /* as the side's; fewer where not every sample had the phase */
};

struct bench_side {
    char name[96];
    enum bench_kind kind;
    bool cold, count;
    struct subject subject;
    char **argv;                                 /* of a baseline, owned (shell_split.h); of an exec, borrowed */
    struct samples samples;                      /* milliseconds, or instructions where `count` */
    struct bench_phase phases[BENCH_MAX_PHASES]; /* in the order they came */
    unsigned n_phases;
    struct samples services; /* where `count`: instructions after the sample (instruction_count.h) */
    struct vmm_accel accel;
    char backend[32], image[SHA256_HEX_SIZE];
    uint64_t memory_mib;
    unsigned vcpus;
    /* An exec's VM while the bench runs. */
    char vm[VMDIR_MAX_NAME + 1];
    int tether;
};

struct bench {
    struct home *h;
    struct progress *progress;
    const struct build_opts *build; /* what every sample of a build is told */
    unsigned n_samples, n_warmups;  /* of each side; warm-ups are thrown away */
    uint64_t timeout_ms;            /* of a single sample */
    struct bench_side sides[BENCH_MAX_SIDES];
    unsigned n_sides;
};

/* Adds a side, whose fields but tether are zero; NULL where there are BENCH_MAX_SIDES. */
struct bench_side *bench_add(struct bench *b, enum bench_kind kind);
/* Takes all samples. -EINTR when interrupted (base/interrupt.h). Whatever comes, no VM of it is left. */
int bench_run(struct bench *b, struct mvm_error *err) MVM_MUST_CHECK;
void bench_done(struct bench *b);

/* "ms" or "instructions". */
const char *bench_unit(const struct bench_side *s);
const char *bench_kind_name(enum bench_kind kind);

/* ---- sample.c ---- */

/* Takes one sample of the side; kept where keep. */
int sample_take(struct bench *b, struct bench_side *s, bool keep, struct mvm_error *err) MVM_MUST_CHECK;
/* What must be there before the first: a snapshot, an exec's VM. */
int sample_prepare(struct bench *b, struct bench_side *s, struct mvm_error *err) MVM_MUST_CHECK;
/* Starts a VM of the subject under a free name. */
int sample_start(struct bench *b, const struct subject *s, bool cold, struct machine_info *info,
                 struct mvm_error *err) MVM_MUST_CHECK;
/* Ends it at once. */
void sample_stop(struct bench *b, struct machine_info *info);
