/*
 * Nix's structured log ("internal-json": lines "@nix {...}") as it arrives, which is hostile input: what is building,
 * how far everything is, what the builders print, and why a step fails. Numbers from Nix's src/libutil/logging.hh.
 */
#pragma once

#include "buildlog/nix_errors.h"
#include "host/progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NIXLOG_ACTIVITIES 128
#define NIXLOG_TAGS       1024

struct nixlog_ops {
    /* A derivation's build begins. tag stands for it in this log, and for it alone. */
    void (*building)(void *data, const char *tag, const char *derivation);
    /* A line that its builder printed. */
    void (*line)(void *data, const char *tag, const char *text);
    /* What Nix itself says, one or more lines without terminal sequences. */
    void (*message)(void *data, const char *text);
    /* Counts or the current activity changed. */
    void (*changed)(void *data);
};

struct nixlog {
    const struct nixlog_ops *ops;
    void *data;
    struct progress_build counts; /* without current: nixlog_counts() knows it */
    struct nix_errors failure;
    struct nixlog_activity {
        int64_t id, type;
        char derivation[256], tag[112]; /* builds; tag also for downloads: the URL's end */
        uint64_t done;                  /* downloads: bytes */
    } activities[NIXLOG_ACTIVITIES];    /* those that run and matter */
    unsigned n_activities;
    uint64_t fetched_before;    /* bytes of downloads that have ended */
    uint32_t tags[NIXLOG_TAGS]; /* hashes of the names that stand for a derivation already */
    unsigned n_tags;
};

/* One line without its newline. False where it is no structured one: plain text. */
bool nixlog_line(struct nixlog *l, const char *line, size_t len);
/* Another step begins: activities and failure are forgotten, counts go on. */
void nixlog_step(struct nixlog *l);
/* The counts now; current is valid until the next line. */
struct progress_build nixlog_counts(const struct nixlog *l);
/* Removes terminal sequences ("\033[31m") and control characters but newline and tab, in place. */
void nixlog_plain(char *text);
