/*
 * A connection to a VM's control socket: requests to its supervisor and, through it, to the agent in the guest.
 * Single-threaded and blocking: bytes move while the caller is inside client_poll or client_send.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <poll.h>
#include <stdbool.h>

struct client;

enum client_event_kind { CLIENT_RECORD, CLIENT_CLOSED, CLIENT_RESET };

struct client_event {
    enum client_event_kind kind;
    uint32_t stream;
    uint8_t channel;
    const uint8_t *data; /* record, or the reset's reason (NUL-terminated); valid until client_event_done */
    size_t len;
};

static inline void client_freep(struct client **c);
#define CLEAN_CLIENT CLEANUP(client_freep)

/* -ENOENT where no such VM runs; -ETIMEDOUT where its supervisor takes no connection until the deadline (clock.h; never
 * 0), without one of the caller's in half a minute; -EINTR. */
int client_connect_by(struct home *h, const char *name, uint64_t deadline, struct client **ret,
                      struct mvm_error *err) MVM_MUST_CHECK;
int client_connect(struct home *h, const char *name, struct client **ret, struct mvm_error *err) MVM_MUST_CHECK;
void client_free(struct client *c);

/* The process at the other end: the VM's supervisor (SO_PEERCRED, unix(7)). */
pid_t client_peer(const struct client *c);

/* Opens a stream with a request message. */
int client_open(struct client *c, const struct buf *request, uint32_t *ret_stream,
                struct mvm_error *err) MVM_MUST_CHECK;
/* The same with descriptors for the peer, as the first that this connection says. */
int client_open_with(struct client *c, const struct buf *request, const int *fds, size_t n, uint32_t *ret_stream,
                     struct mvm_error *err) MVM_MUST_CHECK;
/* Queues a record; where the queue is full, moves bytes until there is room. -EPIPE where the stream or connection is
 * gone, or the peer has closed the stream and takes no more (events that came meanwhile are kept: read them to learn
 * why), -EINTR when interrupt_pending() (base/interrupt.h). */
int client_send(struct client *c, uint32_t stream, uint8_t channel, const void *p, size_t n) MVM_MUST_CHECK;
/* True if client_send would not wait. */
bool client_can_send(struct client *c, uint32_t stream);
void client_close(struct client *c, uint32_t stream);
void client_reset(struct client *c, uint32_t stream, const char *reason);

/* Waits for bytes to move: an event is there (1); a stream may take records again, or one of the caller's descriptors
 * is ready (0; revents filled: look again); the deadline (clock.h) has passed (-ETIMEDOUT), a signal came (-EINTR), or
 * the connection ended (-EPIPE). extra may be NULL. */
int client_poll(struct client *c, struct pollfd *extra, size_t n_extra, uint64_t deadline,
                struct mvm_error *err) MVM_MUST_CHECK;
/* The next event: true. Call client_event_done when finished with it (this lets the peer send more). */
bool client_next(struct client *c, struct client_event *ret);
void client_event_done(struct client *c);

/* Waits for the MSG_EXIT with which a request is answered; its problem becomes the error. */
int client_expect_exit(struct client *c, uint32_t stream, uint64_t deadline, struct mvm_error *err) MVM_MUST_CHECK;

/* Asks the supervisor for MSG_STATUS and waits. */
int client_status(struct client *c, struct msg_status *ret, uint64_t deadline, struct mvm_error *err) MVM_MUST_CHECK;

/* Asks the supervisor to save the VM (msg.h). What it has against it is in ret->problem. */
int client_save(struct client *c, const struct msg_save *m, struct msg_saved *ret, uint64_t deadline,
                struct mvm_error *err) MVM_MUST_CHECK;
/* Stops the VM's processors (MSG_PAUSE) or lets them go on (MSG_RESUME), and waits until it is so. */
int client_pause(struct client *c, bool pause, uint64_t deadline, struct mvm_error *err) MVM_MUST_CHECK;

/* How long the VM may have no client before it stops by itself; 0: for ever. */
int client_set_idle(struct client *c, uint64_t idle_ms, uint64_t deadline, struct mvm_error *err) MVM_MUST_CHECK;

static inline void client_freep(struct client **c)
{
    client_free(*c);
}
