/*
 * The error object: the last argument of every function that can fail.
 *
 * A function that fails returns -errno and, if err is not NULL, fills it. Callers add context on the way out
 * with mvm_error_wrap(), so that the final text reads from the outside in:
 * "cannot start vm 'web': the backend: exec /usr/bin/vmm: No such file or directory".
 * Libraries never print; only src/cli does.
 */
#pragma once

#include "base/macros.h"

#include <stdarg.h>
#include <stdbool.h>

/* Which part of the work failed; shown to the user, in --json output and in the exit status. */
enum mvm_phase {
    MVM_PHASE_NONE,
    MVM_PHASE_USAGE,
    MVM_PHASE_CONFIG,
    MVM_PHASE_BUILDER_BOOTSTRAP,
    MVM_PHASE_NIX_EVAL,
    MVM_PHASE_NIX_BUILD,
    MVM_PHASE_ARTIFACT_EXTRACTION,
    MVM_PHASE_RUNTIME_BACKEND,
    MVM_PHASE_BOOT_BUDGET,
    MVM_PHASE_SERVICES,
    MVM_PHASE_COUNT,
};

struct mvm_error {
    int code;             /* negative errno; 0 means no error is recorded */
    enum mvm_phase phase; /* MVM_PHASE_NONE until somebody knows it */
    char msg[1536];       /* one line, no newline; control characters are replaced */
    char hint[512];       /* what to do next; one line, may be empty */
    char detail[4096];    /* several lines shown below the error (a log's tail); may be empty */
    char kind[24];        /* which of the phase's failures it is, for programs ("hash-mismatch"); may be empty */
    char derivation[256]; /* store path of the derivation that failed; may be empty */
};

#define MVM_ERROR_INIT                                                                                                 \
    {                                                                                                                  \
        0                                                                                                              \
    }

/* "nix-eval" and so on; the empty string for MVM_PHASE_NONE. Never NULL. */
const char *mvm_phase_name(enum mvm_phase phase);

/* The phase of that name, MVM_PHASE_NONE if there is none. */
enum mvm_phase mvm_phase_parse(const char *name);

/* What was recorded; 0 where nothing was, or err is NULL. */
int mvm_error_code(const struct mvm_error *err);

/* Records code (negative errno) and message, forgetting what was there but the phase. Returns code. */
int mvm_error_set(struct mvm_error *err, int code, const char *fmt, ...) MVM_PRINTF(3, 4);

/* The same with ": strerror(-code)" behind the message. */
int mvm_error_errno(struct mvm_error *err, int code, const char *fmt, ...) MVM_PRINTF(3, 4);

/* Whether this error of a reader says that what was read is damaged, of another format, or no plain file at all. Any
 * other (EMFILE, ENOMEM, EIO, EACCES, EINTR) says nothing about it: nothing may be thrown away for one of those. */
bool mvm_error_is_damage(int r);

/* Whether this error of opening says that nothing of that kind has that name: nothing at all, or a link or a plain file
 * where a folder should be. As above, any other error says nothing about what is there. */
bool mvm_error_is_absent(int r);

/* Puts "context: " before the message. Returns err's code, or -EIO where err is NULL: a function whose callers judge
 * its code, and may pass NULL, returns that code itself. */
int mvm_error_wrap(struct mvm_error *err, const char *fmt, ...) MVM_PRINTF(2, 3);

/* Sets the phase unless a deeper caller has. */
void mvm_error_phase(struct mvm_error *err, enum mvm_phase phase);

/* Sets the hint unless a deeper caller has. */
void mvm_error_hint(struct mvm_error *err, const char *fmt, ...) MVM_PRINTF(2, 3);

/* Sets the kind, and the derivation where one is to blame (NULL: none). */
void mvm_error_kind(struct mvm_error *err, const char *kind, const char *derivation);

/* Sets the detail lines; text is capped at the end of the field, keeping its last lines. */
void mvm_error_detail(struct mvm_error *err, const char *text, size_t len);
