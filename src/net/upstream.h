/* Queries of the answerer on their way to the host's resolvers: a socket each, so that the kernel chooses a port that
 * nobody can guess, closed when the answer is there. */
#pragma once

#include "net/answerer.h"
#include "net/resolvers.h"

#include <poll.h>

struct upstream_slot {
    int fd; /* -1: none */
    bool tcp;
    unsigned server;
    uint8_t *bytes; /* TCP: what is left to send, then what has come */
    size_t n, sent;
};

struct upstream {
    struct upstream_slot slots[ANSWERER_SLOTS];
};

void upstream_init(struct upstream *u);
void upstream_done(struct upstream *u);
/* Replaces what the slot was asking. -errno: it cannot be sent. */
int upstream_send(struct upstream *u, unsigned slot, unsigned server, const struct resolver *to, bool tcp,
                  const uint8_t *message, size_t n) MVM_MUST_CHECK;
void upstream_close(struct upstream *u, unsigned slot);
/* What is to be waited for: sets one of `at` for each slot that asks. The number; slots[i] is that of at[i]. */
size_t upstream_fill(const struct upstream *u, struct pollfd at[static ANSWERER_SLOTS],
                     unsigned slots[static ANSWERER_SLOTS]);
/* It is ready. The length of an answer, which is in out; 0: nothing yet; -errno: it failed. */
int upstream_take(struct upstream *u, unsigned slot, uint8_t out[static DNS_MAX_MESSAGE]) MVM_MUST_CHECK;
