/*
 * The DNS answerer: the only way from a name to an address that policy opens. A query from the guest is read, judged,
 * and asked again of the host's resolvers in words of our own (a random identifier, letters of random case, nothing of
 * the guest's message but name and type); the answer is matched, stripped of what was not asked and of addresses that
 * could not be reached anyway (an allowed name that says 127.0.0.1), learned, and written anew.
 *
 * No I/O and no clock: the caller owns the sockets. Each query to a resolver has a slot, and should have a connected
 * socket of its own for it, so that the kernel chooses a port. The caller calls answerer_query for what the guest
 * sends, answerer_answer for what resolvers send, answerer_tick when answerer_next says so, and does what the step
 * says.
 */
#pragma once

#include "base/bucket.h"
#include "net/dns.h"
#include "net/peers.h"
#include "net/policy.h"
#include "net/reply.h"

#define ANSWERER_SLOTS   64
#define ANSWERER_SERVERS 3 /* as resolv.conf(5) has */
#define ANSWERER_TRIES   4 /* the last one in plain words: no EDNS, letters as they are */
#define ANSWERER_TRY_MS  1500
#define ANSWERER_RATE    100 /* queries a second, the default; twice as many at once */
#define ANSWERER_CHECK_S 30  /* between two tries to look up an allowed name that has no address */

enum answerer_action {
    ANSWERER_NOTHING,
    ANSWERER_REPLY, /* message: for the guest; the slot is free again (ANSWERER_SLOTS: there was none) */
    ANSWERER_SEND, /* message: to servers[server], from slot, over UDP, or over TCP where tcp (without the length); what
                      the slot's socket was connected to before is over */
    ANSWERER_CLOSE, /* the slot is free, nobody waits for it */
};

struct answerer_step {
    enum answerer_action action;
    unsigned slot, server;
    bool tcp;
    struct reply_to to;     /* ANSWERER_REPLY: who asked over UDP, */
    void *stream;           /* or over TCP; NULL for UDP */
    const uint8_t *message; /* within the answerer, until the next call */
    size_t len;
    char what[RULE_MAX_NAME + 16];      /* for gate_note: the name, "" where nothing is to be said */
    char said[2 * RULE_MAX_NAME + 160]; /* what was denied and the flag that would allow it */
};

struct answerer_counters {
    uint64_t queries, denied, filtered, failed, limited;
};

struct answerer_slot;
struct answerer_check;
struct answerer {
    struct policy *policy; /* the owner's */
    struct address host4;  /* answers HOST_NAME */
    uint64_t (*random)(void *data);
    void *random_data;
    const struct peers *peers; /* the owner's: whose names are answered here; NULL: the VM is in no network */
    unsigned n_servers;        /* answerer_set_servers */
    struct bucket budget;
    struct answerer_slot *slots;   /* owned */
    uint8_t *out;                  /* owned */
    struct answerer_check *checks; /* owned: of each rule */
    struct answerer_counters count;
};

/* rate: queries a second, 0 for ANSWERER_RATE. random gives 64 bits that the guest cannot guess. -ENOMEM. */
int answerer_init(struct answerer *a, struct policy *p, const struct address *host4, uint32_t rate,
                  uint64_t (*random)(void *), void *random_data, uint64_t now, struct mvm_error *err) MVM_MUST_CHECK;
void answerer_done(struct answerer *a);
/* How many resolvers the caller knows now (it keeps their addresses): queries under way begin again. */
void answerer_set_servers(struct answerer *a, unsigned n);

/* From the guest, over UDP (stream NULL), or over TCP: then the reply may have any size, and stream comes back with it.
 * A query that is under way with the same sender, identifier, name and type is not asked twice (ANSWERER_NOTHING). */
void answerer_query(struct answerer *a, const uint8_t *query, size_t len, const struct reply_to *to, void *stream,
                    uint64_t now, struct answerer_step *ret);
/* From servers[server] at the slot's socket. What does not match changes nothing. */
void answerer_answer(struct answerer *a, unsigned slot, unsigned server, bool tcp, const uint8_t *answer, size_t len,
                     uint64_t now, struct answerer_step *ret);
/* The slot's socket failed (refused, unreachable): goes on to the next try at once. */
void answerer_failed(struct answerer *a, unsigned slot, uint64_t now, struct answerer_step *ret);
/* The TCP connection is closed: what it asked ends without a reply (ANSWERER_CLOSE). */
void answerer_forget(struct answerer *a, const void *stream);
/* When answerer_tick has something to do, 0: never. */
uint64_t answerer_next(const struct answerer *a);
/* One step of what time brings: call it until it says ANSWERER_NOTHING. */
void answerer_tick(struct answerer *a, uint64_t now, struct answerer_step *ret);
