/*
 * Streams into the guest that the supervisor itself opens, for what is published: it is one of the router's clients
 * (router.h), whose frames a multiplexer of its own makes and takes.
 *
 * At most GUEST_STREAMS are open, and their windows are together no more than GUEST_WINDOWS in each direction, which is
 * what can wait here for a guest or a client that does not read. The first of them get a large window, the others the
 * least, so that each may have one.
 *
 * A stream is a struct of its owner's. It stays in the list until both sides have done with it: `gone` then gives it
 * back. What is to be sent goes out at the end of the loop's round.
 */
#pragma once

#include "supervisor/router.h"
#include "wire/mux.h"

#include <uv.h>

#define GUEST_STREAMS (200u)
#define GUEST_WINDOWS (8u << 20)

struct guest_stream;

struct guest_stream_ops {
    /* A record came; guest_stream_consumed() when it has been dealt with. */
    void (*record)(struct guest_stream *g, const void *p, size_t n);
    /* The guest sends no more. */
    void (*closed)(struct guest_stream *g);
    /* The stream is gone: refused, or reset, by the guest or because it cannot be reached. */
    void (*reset)(struct guest_stream *g, const char *why);
    /* It takes records again. NULL: not needed. */
    void (*writable)(struct guest_stream *g);
    /* After guest_stream_finish: it is the owner's again. */
    void (*gone)(struct guest_stream *g);
};

struct guest_streams;

struct guest_stream {
    struct guest_stream *next;
    struct guest_streams *of;
    const struct guest_stream_ops *ops;
    uint32_t number;
    uint64_t window;
    bool waits, finished;
};

struct guest_streams {
    struct router *router;
    struct router_client *client;
    struct mux *mux;
    uv_prepare_t prepare;
    struct buf out;
    struct guest_stream *first;
    unsigned n;
    uint64_t windows;          /* of all of them */
    bool dirty;                /* something may have to be sent */
    void (*room)(void *owner); /* another stream may be opened */
    void *owner;
};

int guest_streams_init(struct guest_streams *s, uv_loop_t *loop, struct router *r);
void guest_streams_done(struct guest_streams *s);
/* What the router sends to this client. */
void guest_streams_input(struct guest_streams *s, const void *p, size_t n);
/* The window that another stream would get, of at least that; 0 where it has to wait. */
uint64_t guest_streams_room(const struct guest_streams *s, uint64_t least);

/* Opens a stream to a port of the guest: 0, or -errno and g is not in the list. */
int guest_stream_open(struct guest_streams *s, struct guest_stream *g, uint16_t port, uint8_t protocol,
                      uint64_t window) MVM_MUST_CHECK;
/* False where it takes no record now: `writable` follows. */
bool guest_stream_may_send(struct guest_stream *g);
/* Sends a record of at most mux_record_max(window) bytes. */
int guest_stream_send(struct guest_stream *g, const void *p, size_t n) MVM_MUST_CHECK;
void guest_stream_consumed(struct guest_stream *g, size_t n);
/* No more records from here; the stream ends in both directions. */
void guest_stream_close(struct guest_stream *g);
void guest_stream_reset(struct guest_stream *g, const char *why);
/* Its owner has done with it: `gone` follows when the guest has, too. */
void guest_stream_finish(struct guest_stream *g);
