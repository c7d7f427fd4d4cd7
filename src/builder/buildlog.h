/*
 * A job's log as it arrives from the builder: the plain lines of evaluation, and Nix's internal-json lines of the
 * build. They become progress (what is building, how much is done), lines for --verbose, a text file that stays on the
 * host, MVM_CACHE_DIR/logs/<id>.log, and the last lines of the step that runs, for its error. A builder's output reads
 * "NAME> line".
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/progress.h"
#include "cache/home.h"

#include <stdint.h>

#define BUILDLOG_MAX_BUILDS 64

struct buildlog {
    struct progress *progress;
    int fd;     /* -1: no file */
    char *path; /* absolute, owned */
    uint64_t written;
    struct buf tail; /* last lines of the step */
    unsigned expected, done, n_building;
    struct buildlog_build {
        int64_t id; /* Nix's activity id */
        char name[96];
    } building[BUILDLOG_MAX_BUILDS];
};

#define BUILDLOG_INIT                                                                                                  \
    {                                                                                                                  \
        .fd = -1, .tail = BUF_INIT(4000)                                                                               \
    }
#define CLEAN_BUILDLOG CLEANUP(buildlog_done)

/* Begins the file for a build's id (a fingerprint; older builds' logs beyond the newest BUILDLOG_KEEP are removed). */
#define BUILDLOG_KEEP 50
int buildlog_open(struct buildlog *l, struct home *h, const char *id, struct progress *p,
                  struct mvm_error *err) MVM_MUST_CHECK;
/* Whole lines, as they came. */
void buildlog_lines(struct buildlog *l, const char *lines, size_t len);
/* Another step begins: its failure is not explained by the lines of the one before. */
void buildlog_step(struct buildlog *l);
void buildlog_done(struct buildlog *l);
