/*
 * A job's log as it arrives from the builder. It becomes progress (what is building, how much is done), lines for
 * --verbose, a text file that stays on the host (build_history.h), the last lines of the step that runs, for its error,
 * and a reason (nix_errors.h). In the text, a derivation begins with "building TAG: /nix/store/...drv" and what its
 * builder prints reads "TAG> line".
 */
#pragma once

#include "base/buf.h"
#include "buildlog/build_history.h"
#include "buildlog/nixlog.h"

struct buildlog {
    struct progress *progress;
    int fd; /* -1: no file */
    struct build_history_entry entry;
    uint64_t written, left_out; /* bytes in the file, lines that it had no room for */
    struct buf tail;            /* last lines of the step */
    struct nixlog nix;
    uint64_t shown_at; /* clock.h: when progress was told last */
    struct progress_build shown;
    char shown_current[112];
};

#define BUILDLOG_INIT                                                                                                  \
    {                                                                                                                  \
        .fd = -1, .tail = BUF_INIT(4000)                                                                               \
    }
#define CLEAN_BUILDLOG CLEANUP(buildlog_done)

/* Begins the file of a build of ref's attr. Without this call there is none. */
int buildlog_open(struct buildlog *l, struct home *h, const char *ref, const char *attr, const char *fingerprint,
                  struct progress *p, struct mvm_error *err) MVM_MUST_CHECK;
/* Whole lines, as they came. */
void buildlog_lines(struct buildlog *l, const char *lines, size_t len);
/* Another step begins: its failure is not explained by the lines of the one before. */
void buildlog_step(struct buildlog *l);
/* Ends the file with what became of the build; why NULL is success. */
void buildlog_finish(struct buildlog *l, struct home *h, const struct mvm_error *why);
void buildlog_done(struct buildlog *l);

/* Copies from the text in fd what a derivation's builder printed to out: whole store path, or name. 1 where that
 * derivation was built there, 0 where not, -errno. */
int buildlog_extract(int fd, const char *derivation, int (*out)(void *data, const char *line, size_t n), void *data,
                     struct mvm_error *err) MVM_MUST_CHECK;
