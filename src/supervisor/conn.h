/*
 * A connection that carries frames (docs/protocol.md), on the supervisor's loop: the guest's channel, or a client of
 * the control socket. Bytes that are no whole frame yet wait in it; what the peer does not take at once waits in a
 * queue, which its owner bounds: by windows (router.h), and by not reading who causes more (conn_pause).
 */
#pragma once

#include "base/buf.h"
#include "supervisor/outqueue.h"
#include "wire/frame.h"

#include <stdbool.h>
#include <uv.h>

struct conn;
struct router_client;

/* The reason of a peer that leaves: it is told nothing, and nobody is told. Compared by its address. */
extern const char conn_goodbye[];

struct conn_ops {
    /* Frames came: how many of the n bytes were used (whole frames; not all of them where it has paused the
     * connection), -errno with the reason for cutting the peer off (conn_goodbye: it left). */
    ssize_t (*frames)(struct conn *c, uint8_t *p, size_t n, const char **ret_why);
    /* The peer broke the protocol; it is told, and `gone` follows. */
    void (*cut_off)(struct conn *c, const char *why);
    /* Some of what was queued has been written. NULL: not needed. */
    void (*drained)(struct conn *c);
    /* The connection has ended. Nothing may be sent from here on. */
    void (*gone)(struct conn *c);
};

struct conn {
    union {
        uv_pipe_t pipe;
        uv_handle_t handle;
        uv_stream_t stream;
    };
    const struct conn_ops *ops;
    void *owner;
    struct router_client *client; /* NULL: the guest */
    struct buf in;
    struct conn *next, *previous; /* clients.h */
    bool used;                    /* a client: it has asked the guest for something */
    bool waits;                   /* a client: for room for another stream */
    bool closing;
    bool paused; /* conn_pause */
    bool held;   /* conn_hold */
    struct outqueue out, kept;
    uv_write_t writing; /* the first block of out */
};

/* One that is not open yet (uv_pipe_open, uv_accept); NULL where memory is short. It frees itself when it is closed. */
struct conn *conn_new(uv_loop_t *loop, const struct conn_ops *ops, void *owner);
/* The same for a client, which may send sockets along (MSG_PORTS). */
struct conn *conn_new_client(uv_loop_t *loop, const struct conn_ops *ops, void *owner);
/* Begins to read. */
int conn_start(struct conn *c) MVM_MUST_CHECK;
/* Takes what a peer that has ended had sent before. NULL is nothing. */
void conn_drain(struct conn *c);
/* Sends bytes, or one frame. Nothing happens on a connection that is NULL or closing. */
void conn_send(struct conn *c, const void *p, size_t n);
void conn_send_frame(struct conn *c, uint8_t type, uint32_t stream, uint8_t channel, const void *p, size_t n);
/* A message on stream 0 that has no fields. */
void conn_send_bare(struct conn *c, uint8_t msg);
/* Bytes that wait to be sent. NULL has none. */
size_t conn_queued(const struct conn *c);
/* Stops reading; goes on, with what had been read first. */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);
/* Keeps back what is sent from now on, until conn_release. NULL is nothing. */
void conn_hold(struct conn *c);
void conn_release(struct conn *c);
/* Tells the peer why, and ends it: `cut_off` and `gone` are called. */
void conn_cut_off(struct conn *c, const char *why);
/* Ends it: `gone` is called. conn_discard: without that. */
void conn_close(struct conn *c);
void conn_discard(struct conn *c);
