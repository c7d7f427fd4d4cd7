/*
 * DNS over TCP, for the guest's resolver to ask the answerer again whose answer did not fit a datagram (RFC 7766). It
 * speaks TCP itself, as little as that takes: a query at a time, in order, a bounded number of connections. libslirp
 * has no part in it: what it forwards goes to one address of this host's, whoever asks.
 */
#pragma once

#include "base/error.h"
#include "net/reply.h"

#include <stdbool.h>
#include <stdint.h>

#define DNS_STREAMS 16

struct dns_stream;

struct dns_stream_ops {
    void (*frame)(void *owner, const void *frame, size_t n); /* to the guest */
    /* A query; dns_streams_answer(stream) follows, at once or later. */
    void (*query)(void *owner, struct dns_stream *stream, const struct reply_to *to, const uint8_t *message, size_t n,
                  uint64_t now);
    void (*gone)(void *owner, const struct dns_stream *stream); /* it waits for no answer any more */
};

struct dns_streams {
    const struct dns_stream_ops *ops;
    void *owner;
    struct dns_stream *v; /* owned */
};

int dns_streams_init(struct dns_streams *d, const struct dns_stream_ops *ops, void *owner,
                     struct mvm_error *err) MVM_MUST_CHECK;
void dns_streams_done(struct dns_streams *d);
/* A TCP packet of the guest's to the answerer. seed: random, the guest must not know it. */
void dns_streams_take(struct dns_streams *d, const uint8_t *frame, const struct packet *p, uint32_t seed, uint64_t now);
void dns_streams_answer(struct dns_streams *d, struct dns_stream *s, const uint8_t *message, size_t n, uint64_t now);
/* When dns_streams_tick has something to do, 0: never. */
uint64_t dns_streams_next(const struct dns_streams *d);
void dns_streams_tick(struct dns_streams *d, uint64_t now);
