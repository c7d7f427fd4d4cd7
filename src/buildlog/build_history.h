/*
 * The logs of past builds: MVM_CACHE_DIR/logs/<id>.log with the text and <id>.json with what became of the build. An id
 * begins with the time, so that names sort by age. The newest BUILD_HISTORY_KEEP are kept, and of these no more than
 * BUILD_HISTORY_BYTES together (the newest one whatever its size).
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"

#include <stdint.h>

#define BUILD_HISTORY_KEEP  50
#define BUILD_HISTORY_BYTES (256ull << 20)
#define BUILD_HISTORY_ID    48

struct build_history_entry {
    char id[BUILD_HISTORY_ID];
    char ref[4096], attr[512];
    char status[16]; /* "unfinished" (running, or killed), "ok", "error", "interrupted" */
    char phase[32], kind[24], error[1536], derivation[256];
    uint64_t started_at; /* CLOCK_REALTIME ns */
    uint64_t size;       /* of the text, bytes */
};

/* Begins a log, and removes the oldest ones. The descriptor of its text, and e->id. ref and attr are e's. */
int build_history_begin(struct home *h, struct build_history_entry *e, const char *fingerprint,
                        struct mvm_error *err) MVM_MUST_CHECK;
/* What became of it: why NULL is success. */
void build_history_finish(struct home *h, struct build_history_entry *e, const struct mvm_error *why);
/* All of them, the newest first. The caller frees *ret. */
int build_history_list(struct home *h, struct build_history_entry **ret, size_t *ret_n,
                       struct mvm_error *err) MVM_MUST_CHECK;
/* The text: a descriptor, -ENOENT. */
int build_history_open_text(struct home *h, const char *id, struct mvm_error *err) MVM_MUST_CHECK;
