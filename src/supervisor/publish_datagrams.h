/*
 * The flows of a published UDP port: for each peer that sends datagrams to it a stream into the guest, whose records
 * are datagrams, and back. A flow on which nothing has moved for FLOW_IDLE_MS ends; where there are too many, the one
 * that was idle longest does. Datagrams that find no room on their way are lost, as they may be.
 */
#pragma once

#include "supervisor/guest_streams.h"
#include "vmdir/port_spec.h"

#define FLOW_IDLE_MS 60000
#define FLOWS_MAX    48            /* of a port */
#define FLOW_WINDOW  (128u * 1024) /* holds the largest datagram, and what gathers before it is given back */

struct flow;

struct datagrams {
    uv_udp_t socket;
    uv_timer_t timer; /* runs while there are flows */
    struct guest_streams *streams;
    const struct port_spec *spec;
    struct flow *first;
    unsigned n;
    unsigned handles; /* not closed yet */
    void (*closed)(void *owner);
    void *owner;
};

/* The socket is given to d->socket between the two; owner, streams and spec are set. */
int datagrams_init(struct datagrams *d, uv_loop_t *loop) MVM_MUST_CHECK;
int datagrams_start(struct datagrams *d) MVM_MUST_CHECK;
/* Ends all flows and the socket: `closed` follows, and no flow is left then. */
void datagrams_close(struct datagrams *d);
