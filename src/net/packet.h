/*
 * What an Ethernet frame from the guest is. Nothing in it is believed: a header that lies about its length, a source
 * address that is not the guest's own, an ARP or neighbour message that claims another's address, and a frame that
 * hides its ports (fragments, IPv4 options, IPv6 extension headers) are refused. Those have no use at an MTU of 65520,
 * and a filter that goes by the first of several overlapping fragments is none.
 */
#pragma once

#include "net/address.h"

#define ETHERNET_HEADER 14
#define PACKET_MAX      (ETHERNET_HEADER + 65535)

/* A VM's wire, as its network process serves it. */
struct net_link {
    uint8_t mac[6];       /* the guest's card */
    uint8_t first_mac[6]; /* what it has until the agent sets that one: not served, and not worth a word */
    struct address guest4,
        guest6; /* its addresses; guest6 (zeros: none) besides those that it makes of its MAC (EUI-64, RFC 4291) */
    struct address router4, router6;
    struct address dns4, dns6; /* where the answerer is asked */
    struct address host4;      /* HOST_NAME; may be router4 */
    struct prefix net4, net6;  /* the subnet: all of it is the network process's own */
};

enum packet_kind {
    PACKET_REFUSED, /* fault says why */
    PACKET_QUIET,   /* what every guest sends and nothing here needs: group membership, ICMP errors */
    PACKET_ARP,
    PACKET_ND, /* neighbour and router solicitations, neighbour advertisements */
    PACKET_DHCP,
    PACKET_TCP,
    PACKET_UDP,
    PACKET_ECHO,   /* an echo request; to the guest: a reply */
    PACKET_ANSWER, /* from the guest: an echo reply, "unreachable". Of use to other members of its network only */
};

/* Why a frame is refused; packet_fault_words has each in words. */
enum packet_fault {
    FAULT_NONE,
    FAULT_SHORT,  /* it ends before a header does, or before the length that a header says */
    FAULT_LONG,   /* more than PACKET_MAX */
    FAULT_TYPE,   /* no IPv4, IPv6, ARP */
    FAULT_HEADER, /* a header that contradicts itself */
    FAULT_FRAGMENT,
    FAULT_OPTIONS,   /* IPv4 options, IPv6 extension headers */
    FAULT_PROTOCOL,  /* none of TCP, UDP, ICMP */
    FAULT_MAC,       /* not the guest's source MAC */
    FAULT_SOURCE,    /* not one of the guest's addresses */
    FAULT_CLAIM,     /* ARP, ND or DHCP for another than the guest itself; a router advertisement, a redirect */
    FAULT_MULTICAST, /* to many, and none of the above */
    PACKET_FAULTS,
};

struct packet {
    enum packet_kind kind;
    enum packet_fault fault;
    bool v6;
    bool asks;                    /* ARP, ND: who has the address `there` */
    uint8_t protocol;             /* rule.h; 0 where it is none */
    uint8_t tcp_flags;            /* byte 13 of its header */
    uint16_t source_port, port;   /* port: of the destination; echo requests: the identifier and 0 */
    struct address source, there; /* there: unwrapped (address.h) */
    const uint8_t *header;        /* of IP, within the frame */
    size_t header_len, len;       /* of IP; of header and what follows it, as IP says */
    const uint8_t *payload;       /* UDP's */
    size_t payload_len;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10

/* From the guest. Never fails: what it cannot read is PACKET_REFUSED. Checksums other than IPv4's header are
 * libslirp's. */
void packet_parse(const struct net_link *l, const uint8_t *frame, size_t len, struct packet *ret);
/* To the guest, from libslirp: source and there are swapped against its addresses (there is the peer, port the peer's),
 * so that the same flow_key comes out. Only what finds a flow is read; the rest is PACKET_QUIET (to pass) or
 * PACKET_REFUSED. */
void packet_parse_inward(const struct net_link *l, const uint8_t *frame, size_t len, struct packet *ret);
/* Whether a frame of a guest asks for nothing: its card says where it is (RARP, ARP of its own address), it joins a
 * group, or it looks whether another has the address that it is about to take. Of what is no frame: no. */
bool packet_announces(const uint8_t *frame, size_t len);
/* "is a fragment". */
const char *packet_fault_words(enum packet_fault fault);
