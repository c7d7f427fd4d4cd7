/*
 * The other members of a VM's network, as its network process has them. A wire to each is a pair of connected sockets:
 * one frame a packet, no bridge between, no name in the file system. Launchers make the pairs and introduce members to
 * each other (supervisor/membership.h); a network process is handed its ends, and when it dies, the next one.
 *
 * A peer is an adversary, as the guest is: what it sends goes through the gate (gate.h), no more of it is read than a
 * rate allows, and what it does not take waits up to a bound.
 */
#pragma once

#include "base/bucket.h"
#include "net/layout.h"
#include "net/link.h"

#include <poll.h>

#define PEERS_NAME  64    /* of a VM, of a network: with the NUL */
#define PEERS_RATE  20000 /* frames a second that are read of each, and as many at once */
#define PEERS_FDS   (NET_MEMBERS + 1)
#define PEERS_QUEUE (1024u * 1024) /* bytes that wait for a peer */
#define PEERS_ZONE  ".mvm.internal"

/* Its launcher's words, with a descriptor: the end of a wire to that member. */
struct peers_introduction {
    uint32_t member;
    char name[PEERS_NAME];
};

struct peer {
    bool used;
    char name[PEERS_NAME];
    struct net_link wire; /* as it has to see it */
    struct link link;
    struct bucket budget;
    uint64_t rests_until; /* it has sent more than it may */
};

struct peers {
    int fd; /* where members are introduced; -1: the VM is in no network, or its launcher has ended */
    unsigned own;
    char network[PEERS_NAME], name[PEERS_NAME]; /* its network's and the VM's own */
    struct peer v[NET_MEMBERS + 1];             /* by number */
    uint64_t present;                           /* 1 << number of each */
};

/* word: "+FD:NUMBER:NETWORK:VM", as the launcher says it (process.h); NULL: no network. -EINVAL. */
int peers_init(struct peers *p, const char *word);
void peers_done(struct peers *p);

/* What is waited for: whom each of the descriptors belongs to, 0 for introductions. rest: nobody is listened to,
 * because the guest takes nothing. At most PEERS_FDS. */
size_t peers_fill(const struct peers *p, struct pollfd *fds, unsigned *who, bool rest, uint64_t now);
/* When there is more to wait for, 0: never. */
uint64_t peers_next(const struct peers *p, uint64_t now);
/* Takes what was introduced: true where there is news. */
bool peers_hear(struct peers *p, uint64_t now);
void peers_send(struct peers *p, unsigned member, const void *frame, size_t n);
/* The next frame of that one: its size, 0 where there is none or it has sent enough, -errno where it is gone. */
int peers_receive(struct peers *p, unsigned member, uint64_t now, uint8_t ret[static LINK_FRAME_MAX]);

/* The member of a name, by which they know each other: VM, VM.NETWORK, VM.NETWORK.mvm.internal (lower case); the VM
 * itself, too. 0: none. */
unsigned peers_find(const struct peers *p, const char *name);
/* The last of these forms. False where there is no such member. */
bool peers_full_name(const struct peers *p, unsigned member, char *ret, size_t size);
