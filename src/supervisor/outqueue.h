/* Bytes on their way out of a connection, in blocks: what is queued costs what it is long, however small its pieces. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block {
    struct block *next;
    size_t len, size;
    uint8_t data[];
};

struct outqueue {
    struct block *first, *last;
    size_t bytes;
    bool first_is_taken; /* it is being written: nothing is added to it */
};

/* At the end. False where memory is short; then nothing, or only a part, was added. */
bool outqueue_add(struct outqueue *q, const void *p, size_t n);
/* The first block, which stays the queue's until outqueue_drop; NULL where there is none. */
struct block *outqueue_take(struct outqueue *q);
void outqueue_drop(struct outqueue *q);
/* All of `more` to the end of q. */
void outqueue_append(struct outqueue *q, struct outqueue *more);
void outqueue_done(struct outqueue *q);
