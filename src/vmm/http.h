/*
 * HTTP/1.1 as VMMs speak it that are driven over a Unix socket: one request at a time on a connection that stays, JSON
 * in both directions, each answer with its length. RFC 9112, sections 3 to 6. Why not libcurl: docs/decisions, 20.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>

#define HTTP_ANSWER_MAX (64u * 1024) /* bytes of one answer, its head included */

struct http_answer {
    unsigned status;
    const uint8_t *body; /* part of the input */
    size_t len;
};

/* Appends a request; body NULL: it has none. */
int http_request(struct buf *out, const char *method, const char *path, const char *body) MVM_MUST_CHECK;
/* The answer that the input begins with: how many bytes it has, 0 while it is not whole, -EPROTO where it is none. */
ssize_t http_answer(const struct buf *in, struct http_answer *ret) MVM_MUST_CHECK;
