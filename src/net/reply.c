#include "net/reply.h"
#include "base/macros.h"
#include "net/rule.h"

#include <string.h>

enum {
    ICMP_UNREACHABLE = 3,
    ICMP_PROHIBITED = 13,
    ICMP6_UNREACHABLE = 1,
    ICMP6_PROHIBITED = 1,
    ICMPV6 = 58,
    HOPS = 64
};

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t sum(uint32_t s, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        s += (uint32_t)(p[i] << 8 | p[i + 1]);
    if (n % 2)
        s += (uint32_t)p[n - 1] << 8;
    return s;
}

/* The complement that makes the whole sum up. */
static uint16_t complement(uint32_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

/* The IP header of len bytes behind it, between two of the wire's addresses. Returns what follows it. */
static uint8_t *put_ip(uint8_t *p, bool v6, const struct address *from, const struct address *to, uint8_t protocol,
                       size_t len)
{
    if (v6) {
        memset(p, 0, 40);
        p[0] = 6 << 4;
        put16(p + 4, len);
        p[6] = protocol;
        p[7] = HOPS;
        memcpy(p + 8, from->b, 16);
        memcpy(p + 24, to->b, 16);
        return p + 40;
    }
    memset(p, 0, 20);
    p[0] = 4 << 4 | 5;
    put16(p + 2, 20 + len);
    p[8] = HOPS;
    p[9] = protocol;
    memcpy(p + 12, address_v4(from), 4);
    memcpy(p + 16, address_v4(to), 4);
    put16(p + 10, complement(sum(0, p, 20)));
    return p + 20;
}

static uint8_t *put_ethernet(uint8_t *p, const uint8_t to[6], const uint8_t from[6], bool v6)
{
    memcpy(p, to, 6);
    memcpy(p + 6, from, 6);
    put16(p + 12, v6 ? 0x86dd : 0x0800);
    return p + ETHERNET_HEADER;
}

/* Of the addresses, as checksums of what is behind an IP header count them. */
static uint32_t pseudo_header(bool v6, const struct address *from, const struct address *to, uint8_t protocol,
                              size_t len)
{
    uint32_t s = protocol + (uint32_t)len;
    if (v6)
        return sum(sum(s, from->b, 16), to->b, 16);
    return sum(sum(s, address_v4(from), 4), address_v4(to), 4);
}

void reply_to_packet(const uint8_t *frame, const struct packet *p, struct reply_to *ret)
{
    *ret = (struct reply_to){
        .v6 = p->v6,
        .guest = p->source,
        .ours = p->there,
        .guest_port = p->source_port,
        .our_port = p->port,
    };
    memcpy(ret->our_mac, frame, 6);
    memcpy(ret->mac, frame + 6, 6);
}

size_t reply_udp(const struct reply_to *to, const uint8_t *payload, size_t len, uint8_t *frame, size_t cap)
{
    size_t udp = 8 + len;
    if (cap < REPLY_HEADERS + len || udp + 20 > UINT16_MAX)
        return 0;
    uint8_t *p = put_ethernet(frame, to->mac, to->our_mac, to->v6);
    p = put_ip(p, to->v6, &to->ours, &to->guest, NET_UDP, udp);
    put16(p, to->our_port);
    put16(p + 2, to->guest_port);
    put16(p + 4, udp);
    put16(p + 6, 0);
    if (len)
        memcpy(p + 8, payload, len);
    uint16_t check = complement(sum(pseudo_header(to->v6, &to->ours, &to->guest, NET_UDP, udp), p, udp));
    put16(p + 6, check ? check : 0xffff); /* 0 says that there is none */
    return (size_t)(p - frame) + udp;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
    return p + 4;
}

size_t reply_tcp(const struct reply_to *to, const struct reply_segment *g, uint8_t *frame, size_t cap)
{
    size_t header = g->mss ? 24 : 20, tcp = header + g->n;
    if (cap < REPLY_TCP_HEADERS + g->n || tcp + 20 > UINT16_MAX)
        return 0;
    uint8_t *p = put_ethernet(frame, to->mac, to->our_mac, to->v6);
    p = put_ip(p, to->v6, &to->ours, &to->guest, NET_TCP, tcp);
    put16(p, to->our_port);
    put16(p + 2, to->guest_port);
    put32(put32(p + 4, g->number), g->acknowledges);
    p[12] = (uint8_t)(header / 4 << 4);
    p[13] = g->flags;
    put16(p + 14, g->window);
    put32(p + 16, 0);
    if (g->mss)
        put32(p + 20, 2u << 24 | 4u << 16 | g->mss);
    if (g->n)
        memcpy(p + header, g->data, g->n);
    put16(p + 16, complement(sum(pseudo_header(to->v6, &to->ours, &to->guest, NET_TCP, tcp), p, tcp)));
    return (size_t)(p - frame) + tcp;
}

size_t reply_rejection(const struct net_link *l, const uint8_t *frame, const struct packet *p,
                       uint8_t out[REPLY_REJECTION])
{
    if ((p->kind != PACKET_TCP && p->kind != PACKET_UDP) || (p->tcp_flags & TCP_RST))
        return 0;
    size_t quoted = MIN_OF(p->len, p->header_len + 8), len = 8 + quoted;
    const struct address *from = p->v6 ? &l->router6 : &l->router4;
    uint8_t protocol = p->v6 ? ICMPV6 : NET_ICMP;
    uint8_t *at = put_ethernet(out, frame + 6, frame, p->v6);
    at = put_ip(at, p->v6, from, &p->source, protocol, len);
    memset(at, 0, 8);
    at[0] = p->v6 ? ICMP6_UNREACHABLE : ICMP_UNREACHABLE;
    at[1] = p->v6 ? ICMP6_PROHIBITED : ICMP_PROHIBITED;
    memcpy(at + 8, p->header, quoted);
    uint32_t start = p->v6 ? pseudo_header(true, from, &p->source, protocol, len) : 0;
    put16(at + 2, complement(sum(start, at, len)));
    return (size_t)(at - out) + len;
}

static size_t reply_arp(const uint8_t *frame, const uint8_t mac[static 6], uint8_t out[REPLY_REJECTION])
{
    const uint8_t *asked = frame + ETHERNET_HEADER;
    uint8_t *p = put_ethernet(out, frame + 6, mac, false);
    put16(out + 12, 0x0806);
    memcpy(p, asked, 6); /* the kinds of addresses */
    put16(p + 6, 2);
    memcpy(p + 8, mac, 6);
    memcpy(p + 14, asked + 24, 4);
    memcpy(p + 18, asked + 8, 10);
    return ETHERNET_HEADER + 28;
}

size_t reply_neighbour(const uint8_t *frame, const struct packet *p, const uint8_t mac[static 6],
                       uint8_t out[REPLY_REJECTION])
{
    enum { ADVERTISEMENT = 136, SOLICITED_OVERRIDE = 0x60, TARGET_MAC = 2, LEN = 32 };
    if (p->kind == PACKET_ARP)
        return reply_arp(frame, mac, out);
    uint8_t *at = put_ethernet(out, frame + 6, mac, true);
    at = put_ip(at, true, &p->there, &p->source, ICMPV6, LEN);
    at[-33] = 255; /* hops: it comes from this wire (RFC 4861 section 7.1.2) */
    memset(at, 0, LEN);
    at[0] = ADVERTISEMENT;
    at[4] = SOLICITED_OVERRIDE;
    memcpy(at + 8, p->there.b, 16);
    at[24] = TARGET_MAC;
    at[25] = 1;
    memcpy(at + 26, mac, 6);
    put16(at + 2, complement(sum(pseudo_header(true, &p->there, &p->source, ICMPV6, LEN), at, LEN)));
    return (size_t)(at - out) + LEN;
}
