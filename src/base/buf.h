/*
 * A byte buffer that is born with a maximum. Growing past it fails with -EMSGSIZE, running out of memory with
 * -ENOMEM; a failed call leaves the content as it was. Text helpers keep a NUL behind the content (not counted in
 * len), so that data is a C string whenever no NUL was appended.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct buf {
    uint8_t *data; /* owned; NULL while nothing was appended */
    size_t len;
    size_t cap;
    size_t max;
};

#define BUF_INIT(limit)                                                                                                \
    {                                                                                                                  \
        .max = (limit)                                                                                                 \
    }
#define CLEAN_BUF CLEANUP(buf_done)

void buf_done(struct buf *b);
void buf_clear(struct buf *b);

/* Makes room for n more bytes (and the NUL). */
int buf_reserve(struct buf *b, size_t n) MVM_MUST_CHECK;
int buf_append(struct buf *b, const void *p, size_t n) MVM_MUST_CHECK;
int buf_str(struct buf *b, const char *s) MVM_MUST_CHECK;
int buf_printf(struct buf *b, const char *fmt, ...) MVM_PRINTF(2, 3) MVM_MUST_CHECK;

/* Drops the first n bytes (n <= len). */
void buf_drop(struct buf *b, size_t n);

/* Reads once from fd, at most n bytes: the count, 0 at the end, -errno. */
ssize_t buf_read(struct buf *b, int fd, size_t n) MVM_MUST_CHECK;

/* The content as a C string, "" while empty. Valid until the next change. */
const char *buf_cstr(const struct buf *b);
