/*
 * The supervisor's switchboard: forwards streams between clients of the control socket and the agent in the guest.
 *
 * Theory of operation. Clients and agent speak the same frames. A client's OPEN gets a stream number of the guest's
 * connection, never used twice; from then on frames of the stream are passed on with the other side's number in their
 * header, WINDOW frames included, so that flow control is end to end and the router holds no more than the two windows
 * allow. It counts both windows itself: a side that sends beyond what was allowed, or takes back more than it got, is
 * cut off here, so that one client cannot break the guest's connection for the others. When a client goes away its
 * streams are reset in the guest; when the guest's connection breaks, in the clients.
 *
 * What clients do not read waits here, so what the guest may send is bounded: a stream begins with ROUTER_WINDOW, and
 * while few are open it is given the rest of MUX_WINDOW at once. Together that is at most ROUTER_GRANTS. An agent that
 * takes no such windows (MSG_CONFIGURED) sends MUX_WINDOW on each, so fewer of them may be open. A client whose stream
 * would be one too many waits for its turn.
 *
 * A client of the supervisor's own, for published ports, sends MSG_CONNECTs whose windows are what it asks
 * for: it bounds them itself, and how many there are. Its streams take no room from the others.
 *
 * The router does no I/O: it hands whole frames to the owner's functions.
 */
#pragma once

#include "base/buf.h"
#include "wire/frame.h"

#include <stdbool.h>

#define ROUTER_WINDOW      (128u * 1024)
#define ROUTER_STREAMS     128
#define ROUTER_STREAMS_OLD 24
#define ROUTER_GRANTS      (24u << 20)

struct router;
struct router_client;

struct router_ops {
    /* Sends bytes (whole frames) to the guest, or to a client. Takes them whatever happens; errors surface elsewhere.
     */
    void (*to_guest)(void *data, const void *p, size_t n);
    void (*to_client)(void *data, void *client, const void *p, size_t n);
    /* A message on stream 0 from the guest. Nonzero cuts the guest off. */
    int (*guest_msg)(void *data, const void *p, size_t n);
    /* A client opens a stream whose request the supervisor answers itself (MSG_STATUS, MSG_STOP): true if it does. */
    bool (*local)(void *data, void *client, uint32_t stream, const void *p, size_t n);
};

struct router *router_new(const struct router_ops *ops, void *data);
void router_free(struct router *r);

/* Tells whether the guest can be reached: false resets all streams with the reason. */
void router_set_guest(struct router *r, bool up, const char *why);

/* A client came (owner's handle) / went. */
struct router_client *router_add_client(struct router *r, void *handle);
/* One whose streams are all MSG_CONNECTs: see above. */
struct router_client *router_add_publisher(struct router *r, void *handle);
void router_remove_client(struct router *r, struct router_client *c);

/* The agent begins its streams with ROUTER_WINDOW. False for one that was not asked to, or does not know how. */
void router_set_small_windows(struct router *r, bool small);
/* Whether the guest can be reached. */
bool router_guest_is_up(const struct router *r);
/* Whether streams are open. */
bool router_is_used(const struct router *r);
/* False where the next client's stream has to wait. */
bool router_has_room(const struct router *r);

/*
 * What the guest's frames cost that moved no payload of an open stream, less what it earned by moving some, since the
 * last call: 1 for a frame, more for what is more work.
 */
uint64_t router_cost(struct router *r);

/* Frames that came. `data` is changed in place. Returns how many bytes were used (whole frames), or -EPROTO with
 * *ret_why: the owner cuts that side off. From a client fewer bytes are used where *ret_waits: try again with the rest
 * when there is room. */
ssize_t router_from_guest(struct router *r, uint8_t *data, size_t len, const char **ret_why);
ssize_t router_from_client(struct router *r, struct router_client *c, uint8_t *data, size_t len, bool *ret_waits,
                           const char **ret_why);
