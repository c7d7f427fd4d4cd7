/*
 * The multiplexer: many flow-controlled streams over one byte stream. A state machine without I/O: the owner feeds
 * bytes that came (mux_input) and takes bytes to send (mux_output). Used by the agent and by clients of a control
 * socket; the supervisor between them forwards whole frames and passes windows through (src/supervisor/router).
 *
 * Theory of operation. Each direction of a stream has a window: the payload bytes of DATA frames its sender may still
 * send. It starts at MUX_WINDOW (mux_set_send_window) and grows with FRAME_WINDOW as the receiving side consumes
 * (mux_consumed). A slow reader therefore fills its own window and nobody else's. mux_send puts a record into the
 * stream's queue, bounded by MUX_QUEUE; mux_output serves the streams that have a window in turn, one frame each, so no
 * stream starves another. Control frames (OPEN, WINDOW, CLOSE, RESET, MSG) go ahead of DATA, except that CLOSE stays
 * behind its own stream's data. Frames for a stream that this side has reset or closed may still be on their way: DATA,
 * WINDOW, CLOSE and RESET for a number that was once opened and is unknown now are ignored; for one that never was they
 * are an error. A peer that breaks a rule (window, numbering, lengths) makes mux_input return -EPROTO; the owner then
 * sends what mux_output still has (a BYE with the reason) and closes. What mux_input and mux_output need is allocated
 * by mux_new, so that short memory costs a stream (mux_send, mux_open, a `record` that fails). The one thing that
 * cannot be left out is a RESET: where it cannot be queued the connection ends, rather than the two sides disagreeing
 * on what is open. A peer that makes this side answer and never reads ends there too.
 */
#pragma once

#include "wire/frame.h"

#include <stdbool.h>

#define MUX_WINDOW       (1u << 20) /* initial window of each direction, bytes */
#define MUX_QUEUE        (256u * 1024)
#define MUX_MAX_STREAMS  384
#define MUX_LEAST_WINDOW (32u * 1024)

struct mux;

struct mux_events {
    /* A message on stream 0. Return -EPROTO to cut the peer off. */
    int (*msg)(void *data, const void *p, size_t n);
    /* The peer opens a stream; payload is its request. Return 0 to accept, -errno to have it reset. NULL: refuse all.
     */
    int (*open)(void *data, uint32_t stream, const void *p, size_t n);
    /* A record came. The owner calls mux_consumed(n) when it has dealt with it, now or later. -ENOMEM resets the stream
     * (`reset` follows), any other error cuts the peer off. */
    int (*record)(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n);
    /* The peer sends no more on this stream. */
    void (*closed)(void *data, uint32_t stream);
    /* The stream is gone: reset by the peer, with its reason, or here because `record` failed. No mux_reset needed. */
    void (*reset)(void *data, uint32_t stream, const char *reason);
    /* The queue has room again after mux_send refused a record. */
    void (*writable)(void *data, uint32_t stream);
};

/* opener: this side opened the connection (uses odd stream numbers). NULL where memory is short. */
struct mux *mux_new(bool opener, const struct mux_events *events, void *data);
void mux_free(struct mux *m);

/* What the peer's windows begin with on streams opened from now on, where it has said so: at least FRAME_MAX_PAYLOAD,
 * at most MUX_WINDOW; anything else is MUX_WINDOW. Ours always begin with that. */
void mux_set_send_window(struct mux *m, uint64_t window);

/* What both directions of a stream begin with on which nothing has moved yet, where both sides say the same; the queue
 * here holds no more. From MUX_LEAST_WINDOW to MUX_WINDOW, else nothing changes. No record may be longer than
 * mux_record_max() then. */
void mux_set_window(struct mux *m, uint32_t stream, uint64_t window);
/* The longest record that a stream with that window carries: what gathers before it is given back must leave room. */
size_t mux_record_max(uint64_t window);

/* Bytes from the peer, all of them used; or -EPROTO (see mux_problem), the connection's end. Callbacks may call any
 * function but mux_input and mux_free. */
int mux_input(struct mux *m, const void *p, size_t n) MVM_MUST_CHECK;
/* Why the connection has ended, in the peer's words where it was the peer that ended it; "" while it has not. */
const char *mux_problem(const struct mux *m);

/* Bytes to send: *ret is borrowed until the next call on m; the count, 0 where there is nothing to send now. Then
 * mux_sent says how many of them went out. */
size_t mux_output(struct mux *m, const uint8_t **ret);
void mux_sent(struct mux *m, size_t n);

/* From now on mux_output gives what has been chosen for sending and the messages queued so far, whole, and nothing
 * else; until mux_undrain. */
void mux_drain(struct mux *m);
void mux_undrain(struct mux *m);

/* A message on stream 0. */
int mux_send_msg(struct mux *m, const struct buf *msg) MVM_MUST_CHECK;
/* Opens a stream with a request. Its number, or -EMFILE, -ENOMEM, -EPIPE where the connection has ended. */
int64_t mux_open(struct mux *m, const struct buf *request) MVM_MUST_CHECK;
/* Queues one record of at most FRAME_MAX_PAYLOAD bytes; one of none is no record and sends nothing. -EAGAIN where the
 * queue is full (nothing was taken; `writable` follows), -EPIPE where the stream is closed or gone. */
int mux_send(struct mux *m, uint32_t stream, uint8_t channel, const void *p, size_t n) MVM_MUST_CHECK;
/* No more records from this side, after what is queued. The stream is forgotten when both sides have closed. */
void mux_close(struct mux *m, uint32_t stream);
/* Ends the stream now in both directions, dropping what is queued. */
void mux_reset(struct mux *m, uint32_t stream, const char *reason);
/* The owner has dealt with n more bytes of records: the peer may send as many again. */
void mux_consumed(struct mux *m, uint32_t stream, size_t n);

/* True if mux_send would take a record now. */
bool mux_can_send(const struct mux *m, uint32_t stream);

/* True while the stream exists (not reset, not closed by both). */
bool mux_has(const struct mux *m, uint32_t stream);
