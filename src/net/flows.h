/*
 * Connections and exchanges of datagrams that were allowed: what belongs to one is not judged again, so that it
 * outlives the answer that its address came from, and only what answers one comes in. The number is bounded: what is
 * idle ends, and where none is, new ones are refused, never old ones dropped.
 */
#pragma once

#include "base/error.h"
#include "net/address.h"

#define FLOWS_MAX 4096 /* the default */

struct flow_key {
    struct address there;
    uint16_t port, guest_port; /* 0 and the identifier for echo requests */
    uint8_t protocol;
    bool v6; /* how it was sent: an unwrapped address has two forms */
};

struct flow;
struct flows {
    struct flow *v;  /* owned */
    uint32_t *heads; /* owned: chains by hash */
    uint32_t max, n_heads, n, free_head, sweep;
    uint64_t seed;
};

/* At most max flows. seed: random, the guest must not know it. -ENOMEM. */
int flows_init(struct flows *f, uint32_t max, uint64_t seed, struct mvm_error *err) MVM_MUST_CHECK;
void flows_done(struct flows *f);
/* True where it is known and has not expired, and stays so: a second opening of the same ports is another one.
 * tcp_flags: of the packet (packet.h), 0 for others; outward: from the guest. A TCP flow is half open (a minute) until
 * the guest sends a second packet, then may be idle for two hours; one that was closed or reset has a minute. A flow of
 * datagrams has four minutes (libslirp's sockets have as long). */
bool flows_touch(struct flows *f, const struct flow_key *k, uint8_t tcp_flags, bool outward, uint64_t now);
/* Of one that is not there. False where there is no room. */
bool flows_add(struct flows *f, const struct flow_key *k, uint64_t now);
