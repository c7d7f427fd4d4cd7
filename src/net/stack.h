/*
 * TCP/IP behind the guest's card: libslirp speaks to the guest in frames and to the network with this host's sockets.
 * It answers ARP, neighbour solicitation, DHCP, and sends router advertisements. It decides nothing: what a guest may
 * reach is decided before a frame gets here.
 */
#pragma once

#include "net/address.h"
#include "net/libslirp.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct stack_ops {
    void (*frame)(void *owner, const void *p, size_t n); /* to the guest */
};

struct stack_timer;

struct stack {
    const struct libslirp *lib;
    Slirp *slirp;
    const struct stack_ops *ops;
    void *owner;
    struct stack_timer *timers;
    struct pollfd *fds; /* of this round; the first are the caller's */
    size_t n_fds, room;
    bool rest; /* of this round */
};

/* guest4: what DHCP gives. host: the gateway's address is this host's loopback, which the guest must not reach but as
 * its policy says. */
int stack_init(struct stack *s, bool host, const struct address *guest4, const struct stack_ops *ops, void *owner,
               struct mvm_error *err) MVM_MUST_CHECK;
void stack_done(struct stack *s);
/* Tells it the guest's card and address, as the guest would: one that goes on with a new network process, or was
 * restored, asks for nothing itself. */
void stack_announce(struct stack *s, const uint8_t mac[static 6], const uint8_t ip[static 4]);
/* A frame of the guest, that may pass. */
void stack_input(struct stack *s, const void *frame, size_t n);
/* One round: waits for the n descriptors in `own`, whose revents it sets, and for the connections', which it serves;
 * where `rest`, for those alone that take what the guest sends. At most timeout_ms (-1: without end). */
int stack_poll(struct stack *s, struct pollfd *own, size_t n, bool rest, int timeout_ms);
