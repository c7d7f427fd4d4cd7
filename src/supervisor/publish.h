/*
 * What a VM publishes: ports and sockets of this host that lead to ports in the guest, over the channel. So they need
 * no network card, and reach what listens on the guest's loopback.
 *
 * A supervisor makes no Internet socket (jail.h): each comes from the command that publishes it, bound and listening,
 * with MSG_PORTS. Connections beyond what guest_streams.h allows, and those that come before the guest is ready, wait
 * in their listener's queue.
 */
#pragma once

#include "supervisor/guest_streams.h"
#include "wire/msg.h"

struct publish;

struct publish_ops {
    /* Other ports than before. */
    void (*changed)(void *owner);
    /* A socket of the file system is published no longer: it is to be removed. */
    void (*remove)(void *owner, const char *path);
};

struct publish *publish_new(uv_loop_t *loop, struct router *r, const struct publish_ops *ops, void *owner);
/* The router's client that this is (router_ops.to_client). */
bool publish_is(const struct publish *p, const void *client);
void publish_input(struct publish *p, const void *bytes, size_t n);
/* Serves the request; the sockets have come over `from`. NULL, or why nothing of it was done. client: whom tied ports
 * go with. */
const char *publish_serve(struct publish *p, const struct msg_ports *m, uv_stream_t *from, const void *client);
/* Closes the sockets that came with a request which is not served. */
void publish_refuse(struct publish *p, uv_stream_t *from);
/* That client has left. */
void publish_untie(struct publish *p, const void *client);
/* The guest can be reached, or cannot any more. */
void publish_guest(struct publish *p, bool up);
/* The ports there are, one a line (msg_status.ports). */
void publish_format(const struct publish *p, char *out, size_t size);
/* Connections of published ports: those that are open, and those there were. */
void publish_count(const struct publish *p, uint64_t *ret_open, uint64_t *ret_all);
/* At the end of the process: removes the sockets of the file system. */
void publish_end(struct publish *p);
