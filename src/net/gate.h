/*
 * What passes between a guest and libslirp: packets are read (packet.h), judged (policy.h), remembered (flows.h), and
 * denials said (denials.h). No I/O, no clock, no allocation for a frame.
 *
 * The order, from the guest: what is refused as a frame; what is for another member of its network (layout.h) goes
 * there; ARP, ND and DHCP pass; what is for the answerer is handed out; what belongs to a flow passes; the VM's own
 * subnet is closed but for the host's opened ports and echo requests to the router; the rest is the policy's, and of
 * what that allows, not what is the host's own. Then it becomes a flow.
 *
 * Members trust their network: between them TCP, UDP and echo pass both ways, with each other's own addresses and to
 * nobody else. Who has which MAC follows from the layout, so that ARP and ND are answered here and cross no wire.
 */
#pragma once

#include "net/denials.h"
#include "net/flows.h"
#include "net/policy.h"
#include "net/reply.h"

#define GATE_LINE 704

enum gate_action {
    GATE_PASS,
    GATE_DROP,
    GATE_REPLY,      /* reply holds a frame for the guest; the guest's own is dropped */
    GATE_DNS,        /* a query for the answerer: query, asker */
    GATE_DNS_STREAM, /* a TCP packet to it: packet (dns_stream.h) */
    GATE_PEER,       /* for the member `peer` of its network */
};

struct gate_counters {
    uint64_t frames_out, bytes_out, frames_in, bytes_in; /* that passed; out: from the guest */
    uint64_t denied;                                     /* by policy */
    uint64_t refused[PACKET_FAULTS];                     /* as frames */
    uint64_t flows;                                      /* connections that were opened, of any protocol */
    uint64_t full;                                       /* no room for the connection */
    uint64_t unasked;                                    /* from outside, without a flow */
    uint64_t queries;
    uint64_t peers_out, peers_in; /* frames that passed between members */
};

struct gate {
    struct net_link link;
    struct policy *policy;                               /* the owner's */
    unsigned member;                                     /* of its network: its number; 0: it is alone */
    uint64_t present;                                    /* 1 << member, of each other that is there */
    bool (*is_own)(void *data, const struct address *a); /* is it an address of this host? NULL: none is */
    void *is_own_data;
    struct flows flows;
    struct denials denials;
    struct gate_counters count;
};

struct gate_result {
    enum gate_action action;
    unsigned peer;
    size_t reply_len;
    uint8_t reply[REPLY_REJECTION];
    const uint8_t *query; /* within the frame */
    size_t query_len;
    struct reply_to asker;
    struct packet packet;
    char
        said[GATE_LINE]; /* one line for the log, "" for none: what was denied, why, and the flag that would allow it */
};

/* The policy stays the caller's and has to outlive it. max_flows: 0 for FLOWS_MAX. seed: random. is_own is set
 * afterwards. */
int gate_init(struct gate *g, const struct net_link *l, struct policy *p, uint32_t max_flows, uint64_t seed,
              uint64_t now, struct mvm_error *err) MVM_MUST_CHECK;
void gate_done(struct gate *g);

void gate_from_guest(struct gate *g, const uint8_t *frame, size_t len, uint64_t now, struct gate_result *ret);
/* Whether a frame of libslirp's goes to the guest: ARP, ND, RA, DHCP and what answers a flow. */
bool gate_to_guest(struct gate *g, const uint8_t *frame, size_t len, uint64_t now);
/* Whether a frame of the member with that wire (layout_link) goes to the guest. name: what it is called; said: as in
 * gate_result. */
bool gate_from_peer(struct gate *g, const struct net_link *peer, const char *name, const uint8_t *frame, size_t len,
                    uint64_t now, char said[GATE_LINE]);
/* The answerer denied something: the line to log in said, or "". what: a name; text: the line. */
void gate_note(struct gate *g, const char *what, const char *text, uint64_t now, char said[GATE_LINE]);
