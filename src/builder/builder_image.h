/*
 * The builder image of this mvmctl: from the cache where it is fresh, else built now from this checkout's
 * nix/images/builder-vm inside a Stage 0 seed, and kept. A source checkout never takes a published builder image.
 */
#pragma once

#include "base/error.h"
#include "bootstrap/seed.h"
#include "cache/buildercache.h"
#include "host/json.h"
#include "host/progress.h"

/* What was decided, in words without names, paths or digests of this machine: for --verbose and --json. */
struct builder_image_report {
    const char *kind;         /* "source-checkout" or "release" */
    enum cache_reason reason; /* the verdict on the cache as it was found */
    char seed[64];            /* label of the seed that was taken, "" where none was needed */
    struct {
        char label[64], reason[64];
    } passed[SEED_MAX_CANDIDATES]; /* the seeds that were not taken */
    size_t n_passed;
};

/* kind, and the verdict as an object {kind, ready, reason[, seed, passed_over]}. */
json_object *builder_image_report_json(const struct builder_image_report *r);

/* The verdict alone: nothing is built, nothing is changed. */
int builder_image_judge(struct home *h, bool verify, struct builder_image_report *ret,
                        struct mvm_error *err) MVM_MUST_CHECK;

/* The image, built where needed and held open. verify: every byte of a cached one is read. Errors: those of the step
 * that failed, with phase builder-bootstrap. */
int builder_image_ensure(struct home *h, bool verify, struct progress *p, struct builder_image_report *report,
                         struct buildercache_image *ret, struct mvm_error *err) MVM_MUST_CHECK;
