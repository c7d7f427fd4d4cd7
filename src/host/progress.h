/*
 * How long work tells what it is doing: a library calls these, the command line renders them (a line that is redrawn
 * on a terminal, plain lines otherwise). Each phase's time is kept for --json. A NULL progress is silent.
 */
#pragma once

#include "base/macros.h"
#include "base/steps.h"

#include <stdint.h>

#define PROGRESS_MAX_PHASES 24

/* How far a build is. */
struct progress_build {
    unsigned built, to_build;   /* derivations */
    unsigned copied, to_copy;   /* store paths */
    uint64_t fetched, to_fetch; /* bytes; to_fetch is what is known so far */
    const char *current;        /* what is being built or fetched, "" for nothing; never NULL */
};

struct progress_ops {
    /* The current phase or its detail changed; detail may be "". */
    void (*update)(void *data, const char *phase, const char *detail);
    /* A line the user sees at normal verbosity, or only with --verbose. */
    void (*note)(void *data, const char *line);
    void (*verbose)(void *data, const char *line);
    /* Within the current phase; may come often. */
    void (*build)(void *data, const char *phase, const struct progress_build *b);
    /* A phase has ended after so long; may be NULL. */
    void (*end)(void *data, const char *phase, uint64_t ns);
};

struct progress {
    const struct progress_ops *ops;
    void *data;
    struct progress_phase {
        char name[32];
        uint64_t ns; /* time spent in it so far; phases entered again add up */
    } phases[PROGRESS_MAX_PHASES];
    unsigned n_phases;
    int current; /* index, -1 between phases */
    uint64_t started;
    struct steps *steps; /* NULL, or where each stay in a phase is noted; borrowed */
};

#define PROGRESS_INIT(ops_, data_)                                                                                     \
    {                                                                                                                  \
        .ops = (ops_), .data = (data_), .current = -1                                                                  \
    }

/* Enters a phase (ends the one before; nothing where it is the current one). name: lower case with dashes; it is the
 * key in --json timings. */
void progress_phase(struct progress *p, const char *name);
void progress_detail(struct progress *p, const char *fmt, ...) MVM_PRINTF(2, 3);
void progress_note(struct progress *p, const char *fmt, ...) MVM_PRINTF(2, 3);
void progress_verbose(struct progress *p, const char *fmt, ...) MVM_PRINTF(2, 3);
/* Each line of text by itself. */
void progress_verbose_lines(struct progress *p, const char *text);
void progress_build(struct progress *p, const struct progress_build *b);
/* Ends the current phase. */
void progress_end(struct progress *p);
