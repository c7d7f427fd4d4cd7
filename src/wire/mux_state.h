/* The multiplexer as its two files share it: mux.c has streams and sends, mux_receive.c takes what comes. */
#pragma once

#include "wire/mux.h"

/* Bytes on their way out, taken from the front. Memory is compacted only when the front is over
 * half of it. */
struct mux_queue {
    struct buf buf;
    size_t head;
};

struct mux_stream {
    struct mux_stream *next;
    uint32_t number;
    int64_t send_window; /* payload bytes we may still send */
    int64_t recv_window; /* ... the peer may still send */
    uint32_t unacked;    /* consumed here, not yet given back ... */
    uint32_t give_back;  /* ... until it is so much */
    size_t queue_max;    /* bytes of `records` above which none is taken */
    bool local_closed, close_sent, remote_closed;
    bool refused;             /* mux_send said -EAGAIN: tell when there is room */
    struct mux_queue records; /* whole DATA frames */
};

struct mux {
    bool opener;
    struct mux_events events;
    void *data;
    struct mux_stream *streams; /* in the order they are served */
    unsigned n_streams;
    int64_t first_window; /* of streams, for sending */
    uint32_t next_number; /* ours */
    uint32_t last_peer;   /* highest number the peer has opened */
    struct mux_queue control;
    struct buf out; /* frames chosen for sending; allocated once */
    size_t out_head;
    struct buf in;      /* the start of a frame that is not whole yet; allocated once */
    char problem[1100]; /* why the connection has ended, "" while it has not */
    bool owes_bye;      /* it was this side that ended it, and has not said so yet */
    bool held;          /* see mux_drain */
    size_t held_left;   /* bytes at the head of `control` that still go out */
};

/* NULL where there is no such stream. */
struct mux_stream *mux_find(const struct mux *m, uint32_t number);
/* NULL where there are too many, or no memory. */
struct mux_stream *mux_add_stream(struct mux *m, uint32_t number);
void mux_drop(struct mux *m, struct mux_stream *gone);
/* A stream is forgotten when nothing can move on it any more. True if it was. */
bool mux_drop_if_finished(struct mux *m, struct mux_stream *s);
/* Ends the connection from this side: -EPROTO. The BYE is made by mux_output: it needs no memory. */
int mux_broken(struct mux *m, const char *why);
void mux_send_reset(struct mux *m, uint32_t stream, const char *reason);
