/*
 * What a service prints: kept in /run/mvm/log/NAME.log (capped), and said to the host line by line as far as its share
 * of the lines goes that the host takes from a guest. What is beyond that is in the file alone; how many lines were
 * left out is said within a second.
 */
#pragma once

#include "base/bucket.h"
#include "base/buf.h"

#include <sys/types.h>

struct servicelog {
    const char *name; /* borrowed */
    int fd;
    uint64_t size;
    struct buf line;
    struct bucket share;
    uint64_t left_out; /* lines */
    void (*say)(void *data, const char *line);
    void *data;
};

/* One of `services` that share what the host takes. Lines go through `say`, with the service's name before them. */
void servicelog_open(struct servicelog *l, const char *name, size_t services, void (*say)(void *data, const char *line),
                     void *data);
/* Tells the host something about the service. */
void servicelog_say(const struct servicelog *l, const char *text);
/* Bytes that it printed. Where left_out is not 0 afterwards, servicelog_settle is to be called within a second. */
void servicelog_take(struct servicelog *l, const char *p, size_t n);
/* The service has closed its output: what it printed last is a line. */
void servicelog_end(struct servicelog *l);
/* Says how many lines were left out since it was said last, if any. */
void servicelog_settle(struct servicelog *l);
