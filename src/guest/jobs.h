/*
 * Which build jobs run and which wait for their turn. Strictly in the order of arrival: the first one that waits starts
 * as soon as fewer jobs run than it allows, and nobody overtakes it. Only the order is kept here; processes are
 * relay.c's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOBS_MAX           64 /* running and waiting */
#define JOBS_DEFAULT_LIMIT 8

struct jobs {
    struct jobs_entry {
        unsigned id;
        uint64_t limit; /* it starts while fewer than this many run */
        bool running;
    } v[JOBS_MAX]; /* in the order of arrival */
    size_t n, n_running;
    unsigned last_id; /* ids are never used twice */
};

/* A job waits at the end; limit 0: the default. Its id, or 0 where JOBS_MAX jobs are there. */
unsigned jobs_add(struct jobs *j, uint64_t limit);
/* The job has ended, or does not want its turn any more. An unknown id is ignored. */
void jobs_remove(struct jobs *j, unsigned id);
/* The next job whose turn it is, which counts as running from now on; 0 for none. Call until it is 0. */
unsigned jobs_start(struct jobs *j);
/* How many jobs have to end before this one's turn; 0 for one that runs or is not known. */
unsigned jobs_before(const struct jobs *j, unsigned id);
