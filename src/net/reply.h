/* Frames for the guest that answer one of its own: what libslirp has no part in. */
#pragma once

#include "net/packet.h"

#define REPLY_REJECTION   128 /* as long as a rejection gets */
#define REPLY_HEADERS     (ETHERNET_HEADER + 40 + 8)
#define REPLY_TCP_HEADERS (ETHERNET_HEADER + 40 + 24)

/* Who asked something, and at which of our addresses. */
struct reply_to {
    uint8_t mac[6], our_mac[6];
    bool v6;
    struct address guest, ours;
    uint16_t guest_port, our_port;
};

/* Of a UDP or TCP packet. */
void reply_to_packet(const uint8_t *frame, const struct packet *p, struct reply_to *ret);
/* A frame with payload. Its length; 0 where cap is less than REPLY_HEADERS + len or len does not fit a datagram. */
size_t reply_udp(const struct reply_to *to, const uint8_t *payload, size_t len, uint8_t *frame, size_t cap);
/* Of a TCP connection that this process has with the guest. */
struct reply_segment {
    uint32_t number, acknowledges;
    uint8_t flags;
    uint16_t window, mss; /* mss 0: it is not said */
    const uint8_t *data;
    size_t n;
};
/* Its length; 0 where cap is less than REPLY_TCP_HEADERS + n. */
size_t reply_tcp(const struct reply_to *to, const struct reply_segment *g, uint8_t *frame, size_t cap);
/* "Administratively prohibited" (RFC 1812 5.2.7.1, RFC 4443 3.1) to a TCP or UDP packet, from the router: the program's
 * connect fails at once. Its length; 0 where there is nothing to say (an echo request, a reset). */
size_t reply_rejection(const struct net_link *l, const uint8_t *frame, const struct packet *p,
                       uint8_t out[REPLY_REJECTION]);
/* To ARP or ND that asks for an address: that MAC has it. Its length. */
size_t reply_neighbour(const uint8_t *frame, const struct packet *p, const uint8_t mac[static 6],
                       uint8_t out[REPLY_REJECTION]);
