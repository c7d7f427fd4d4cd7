/*
 * A connection that a published port has taken, and its stream into the guest: bytes go both ways, half a close is half
 * a close, a reset is a reset, and so is what the guest refuses. A side that does not read stops the other one, by the
 * stream's window.
 */
#pragma once

#include "supervisor/guest_streams.h"
#include "supervisor/outqueue.h"
#include "vmdir/port_spec.h"

struct published {
    struct published *next; /* of the same port */
    struct guest_stream stream;
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_handle_t handle;
        uv_stream_t socket;
    };
    bool is_tcp;
    bool opened;       /* the stream was */
    bool closing;      /* the socket is */
    bool client_ended; /* it sends no more */
    bool guest_ended;
    bool shut; /* the client was told that */
    bool reading;
    struct outqueue out;
    uv_write_t writing; /* the first block of out */
    uv_shutdown_t shutting;
    void (*gone)(void *owner, struct published *p);
    void *owner;
};

/* Takes the connection that the listener has, if it has one. Whatever is returned, `gone` says when p is the owner's
 * again, to be freed. */
int published_accept(struct published *p, uv_stream_t *listener, struct guest_streams *streams,
                     const struct port_spec *spec) MVM_MUST_CHECK;
/* Resets it on both sides. */
void published_reset(struct published *p, const char *why);
