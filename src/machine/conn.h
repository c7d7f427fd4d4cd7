/*
 * A connection that carries frames (docs/protocol.md), on the supervisor's loop: the guest's channel, or a client of
 * the control socket. Bytes that are no whole frame yet wait in it; what the peer does not take at once waits in
 * libuv's queue, which the router's windows bound.
 */
#pragma once

#include "base/buf.h"
#include "wire/frame.h"

#include <stdbool.h>
#include <uv.h>

struct conn;
struct router_client;

struct conn_ops {
    /* Frames came: how many of the n bytes were whole frames, -errno with the reason for cutting the peer off
     * ("goodbye": it left). */
    ssize_t (*frames)(struct conn *c, uint8_t *p, size_t n, const char **ret_why);
    /* The peer broke the protocol; it is told, and `gone` follows. */
    void (*cut_off)(struct conn *c, const char *why);
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
    bool used; /* a client: it has asked the guest for something */
    bool closing;
    bool held; /* conn_hold */
    struct buf kept;
};

/* One that is not open yet (uv_pipe_open, uv_accept); NULL where memory is short. It frees itself when it is closed. */
struct conn *conn_new(uv_loop_t *loop, const struct conn_ops *ops, void *owner);
/* Begins to read. */
int conn_start(struct conn *c) MVM_MUST_CHECK;
/* Takes what a peer that has ended had sent before. NULL is nothing. */
void conn_drain(struct conn *c);
/* Sends bytes, or one frame. Nothing happens on a connection that is NULL or closing. */
void conn_send(struct conn *c, const void *p, size_t n);
void conn_send_frame(struct conn *c, uint8_t type, uint32_t stream, uint8_t channel, const void *p, size_t n);
/* A message on stream 0 that has no fields. */
void conn_send_bare(struct conn *c, uint8_t msg);
/* Keeps back what is sent from now on, until conn_release. The router's windows bound it. NULL is nothing. */
void conn_hold(struct conn *c);
void conn_release(struct conn *c);
/* Ends it: `gone` is called. conn_discard: without that. */
void conn_close(struct conn *c);
void conn_discard(struct conn *c);
