#include "net/packet.h"
#include "base/macros.h"
#include "net/rule.h"

#include <string.h>

enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806, TYPE_RARP = 0x8035, TYPE_IPV6 = 0x86dd };
enum { IGMP = 2, HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, ESP = 50, AH = 51, ICMPV6 = 58, DESTINATION = 60 };
enum { DHCP_SERVER = 67, DHCP_CLIENT = 68 };
enum {
    ECHO_REPLY = 0,
    UNREACHABLE = 3,
    ECHO = 8,
    UNREACHABLE6 = 1,
    ECHO6 = 128,
    ECHO6_REPLY = 129,
    RS = 133,
    RA = 134,
    NS = 135,
    NA = 136,
    REDIRECT = 137
};
enum { OPTION_SOURCE_MAC = 1, OPTION_TARGET_MAC = 2 };

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define UDP_HEADER  8
#define TCP_HEADER  20
#define ARP_SIZE    28
#define BOOTP_SIZE  236

static const char *const words[] = {
    [FAULT_NONE] = "is in order",
    [FAULT_SHORT] = "is shorter than it says",
    [FAULT_LONG] = "is longer than a frame may be",
    [FAULT_TYPE] = "is neither IPv4 nor IPv6 nor ARP",
    [FAULT_HEADER] = "has a header that contradicts itself",
    [FAULT_FRAGMENT] = "is a fragment",
    [FAULT_OPTIONS] = "has options or extension headers",
    [FAULT_PROTOCOL] = "is none of TCP, UDP and echo requests",
    [FAULT_MAC] = "has another MAC address than the VM's",
    [FAULT_SOURCE] = "has another source address than the VM's",
    [FAULT_CLAIM] = "claims what is not the VM's",
    [FAULT_MULTICAST] = "is for many",
};
_Static_assert(ARRAY_SIZE(words) == PACKET_FAULTS, "a fault without words");

const char *packet_fault_words(enum packet_fault fault)
{
    return words[fault];
}

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* A packet that is being read, from outside inwards. */
struct reading {
    const struct net_link *l;
    const uint8_t *ethernet;
    const uint8_t *p; /* what is not read yet */
    size_t n;
    struct packet *ret;
    bool inward;
};

static void refuse(struct packet *p, enum packet_fault fault)
{
    p->kind = PACKET_REFUSED;
    p->fault = fault;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* ---- The guest's own addresses ---- */

static bool is_guest4(const struct net_link *l, const uint8_t ip[4])
{
    return memcmp(ip, address_v4(&l->guest4), 4) == 0;
}

static bool is_guest6(const struct net_link *l, const uint8_t ip[16])
{
    static const struct address link_local = {{0xfe, 0x80}};
    const struct address global = address_eui64(&l->net6.base, l->mac), local = address_eui64(&link_local, l->mac);
    if (memcmp(ip, l->guest6.b, 16) == 0)
        return !is_zero(ip, 16);
    return memcmp(ip, global.b, 16) == 0 || memcmp(ip, local.b, 16) == 0;
}

/* ---- ARP, neighbours, DHCP ---- */

static void parse_arp(struct reading *r)
{
    static const uint8_t request[7] = {0, 1, 8, 0, 6, 4, 0}; /* Ethernet, IPv4; then the operation */
    const uint8_t *p = r->p;
    if (r->n < ARP_SIZE)
        return refuse(r->ret, FAULT_SHORT);
    if (memcmp(p, request, sizeof(request)) != 0 || (p[7] != 1 && p[7] != 2))
        return refuse(r->ret, FAULT_HEADER);
    bool probe = p[7] == 1 && is_zero(p + 14, 4); /* RFC 5227 */
    if (!r->inward && (memcmp(p + 8, r->l->mac, 6) != 0 || (!probe && !is_guest4(r->l, p + 14))))
        return refuse(r->ret, FAULT_CLAIM);
    r->ret->kind = PACKET_ARP;
    r->ret->asks = p[7] == 1;
    r->ret->there = address_from4(p + 24);
}

/* Options of a neighbour message (RFC 4861 section 4.6): those that name a MAC name the guest's. */
static enum packet_fault nd_options(const struct reading *r, size_t at)
{
    const uint8_t *p = r->p + at;
    size_t left = r->n - at;
    while (left) {
        size_t n = left >= 2 ? p[1] * 8u : 0;
        if (!n || n > left)
            return FAULT_HEADER;
        if ((p[0] == OPTION_SOURCE_MAC || p[0] == OPTION_TARGET_MAC) && (n != 8 || memcmp(p + 2, r->l->mac, 6) != 0))
            return FAULT_CLAIM;
        p += n;
        left -= n;
    }
    return FAULT_NONE;
}

/* From the guest: it asks for others as itself, and answers for itself. */
static void parse_nd(struct reading *r, const uint8_t *source)
{
    uint8_t type = r->p[0];
    size_t fixed = type == RS ? 8 : 24;
    if (r->ret->header[7] != 255 || r->p[1] != 0)
        return refuse(r->ret, FAULT_HEADER);
    if (r->n < fixed)
        return refuse(r->ret, FAULT_SHORT);
    const uint8_t *target = r->p + 8;
    bool nameless = is_zero(source, 16); /* before an address is its own (RFC 4862 section 5.4) */
    if ((type == NA || (type == NS && nameless)) && !is_guest6(r->l, target))
        return refuse(r->ret, FAULT_CLAIM);
    if (type == NA && nameless)
        return refuse(r->ret, FAULT_SOURCE);
    enum packet_fault fault = nd_options(r, fixed);
    if (fault)
        return refuse(r->ret, fault);
    r->ret->kind = PACKET_ND;
    r->ret->asks = type == NS;
    if (type == NS)
        r->ret->there = address_from6(target);
}

/* A client's message, of this card. */
static void parse_dhcp(struct reading *r)
{
    const uint8_t *p = r->ret->payload;
    if (r->ret->payload_len < BOOTP_SIZE)
        return refuse(r->ret, FAULT_SHORT);
    if (p[0] != 1 || p[1] != 1 || p[2] != 6 || memcmp(p + 28, r->l->mac, 6) != 0)
        return refuse(r->ret, FAULT_CLAIM);
    r->ret->kind = PACKET_DHCP;
}

/* ---- TCP, UDP, ICMP ---- */

static void take_ports(struct reading *r)
{
    uint16_t from = be16(r->p), to = be16(r->p + 2);
    r->ret->source_port = r->inward ? to : from;
    r->ret->port = r->inward ? from : to;
}

static void parse_tcp(struct reading *r)
{
    if (r->n < TCP_HEADER)
        return refuse(r->ret, FAULT_SHORT);
    size_t header = (r->p[12] >> 4) * 4u;
    if (header < TCP_HEADER)
        return refuse(r->ret, FAULT_HEADER);
    if (header > r->n)
        return refuse(r->ret, FAULT_SHORT);
    take_ports(r);
    r->ret->tcp_flags = r->p[13];
    r->ret->kind = PACKET_TCP;
}

static void parse_udp(struct reading *r)
{
    if (r->n < UDP_HEADER)
        return refuse(r->ret, FAULT_SHORT);
    size_t len = be16(r->p + 4);
    if (len < UDP_HEADER)
        return refuse(r->ret, FAULT_HEADER);
    if (len > r->n && !r->inward) /* a first fragment's is the whole datagram's */
        return refuse(r->ret, FAULT_SHORT);
    take_ports(r);
    r->ret->payload = r->p + UDP_HEADER;
    r->ret->payload_len = MIN_OF(len, r->n) - UDP_HEADER;
    r->ret->kind = PACKET_UDP;
}

/* Of a version's types: an echo request (to the guest a reply), and from the guest what answers others. */
static void parse_icmp(struct reading *r, uint8_t echo, uint8_t reply, uint8_t unreachable)
{
    uint8_t type = r->n ? r->p[0] : 0;
    r->ret->kind = PACKET_QUIET;
    if (r->n < 8)
        return refuse(r->ret, FAULT_SHORT);
    if (type == (r->inward ? reply : echo) && r->p[1] == 0) {
        r->ret->kind = PACKET_ECHO;
        r->ret->source_port = be16(r->p + 4);
    } else if (!r->inward && (type == reply || type == unreachable)) {
        r->ret->kind = PACKET_ANSWER;
    }
}

static void parse_transport(struct reading *r)
{
    if (r->ret->protocol == NET_TCP)
        parse_tcp(r);
    else if (r->ret->protocol == NET_UDP)
        parse_udp(r);
    else
        refuse(r->ret, FAULT_PROTOCOL);
}

/* ---- IPv4 ---- */

static bool sum_holds(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i += 2)
        sum += be16(p + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

static enum packet_fault check_ipv4(const uint8_t *p, size_t n, bool inward)
{
    if (n < IPV4_HEADER)
        return FAULT_SHORT;
    size_t header = (p[0] & 15) * 4u, total = be16(p + 2);
    if (p[0] >> 4 != 4 || header < IPV4_HEADER || total < header)
        return FAULT_HEADER;
    if (total > n)
        return FAULT_SHORT;
    if (inward)
        return header > IPV4_HEADER ? FAULT_OPTIONS : FAULT_NONE;
    /* All but "may not be cut": more to come, an offset, the reserved bit. */
    if (be16(p + 6) & 0xbfff)
        return FAULT_FRAGMENT;
    if (header > IPV4_HEADER)
        return FAULT_OPTIONS;
    return sum_holds(p, IPV4_HEADER) ? FAULT_NONE : FAULT_HEADER;
}

/* To 255.255.255.255 or the router, from a guest with or without its address. */
static bool is_dhcp4(const struct reading *r, const uint8_t *from, const uint8_t *to)
{
    static const uint8_t all[4] = {255, 255, 255, 255};
    const struct packet *p = r->ret;
    return p->kind == PACKET_UDP && p->source_port == DHCP_CLIENT && p->port == DHCP_SERVER &&
           (is_zero(from, 4) || is_guest4(r->l, from)) &&
           (memcmp(to, all, 4) == 0 || memcmp(to, address_v4(&r->l->router4), 4) == 0);
}

static void parse_ipv4(struct reading *r)
{
    const uint8_t *p = r->p, *from = p + 12, *to = p + 16;
    enum packet_fault fault = check_ipv4(p, r->n, r->inward);
    /* Membership of groups has an option (RFC 2236). */
    if (fault == FAULT_OPTIONS && p[9] == IGMP)
        fault = FAULT_NONE;
    if (fault)
        return refuse(r->ret, fault);
    r->ret->header = p;
    r->ret->header_len = IPV4_HEADER;
    r->ret->len = be16(p + 2);
    r->ret->protocol = p[9];
    r->ret->source = address_from4(r->inward ? to : from);
    r->ret->there = address_from4(r->inward ? from : to);
    r->p += IPV4_HEADER;
    r->n = r->ret->len - IPV4_HEADER;
    /* What libslirp cut: without its first fragment the rest is nothing. */
    bool later = r->inward && (be16(p + 6) & 0x1fff);
    if (r->ret->protocol == IGMP || later)
        r->ret->kind = PACKET_QUIET;
    else if (r->ret->protocol == NET_ICMP)
        parse_icmp(r, ECHO, ECHO_REPLY, UNREACHABLE);
    else
        parse_transport(r);
    if (r->inward || r->ret->kind == PACKET_REFUSED || r->ret->kind == PACKET_QUIET)
        return;
    if (is_dhcp4(r, from, to))
        return parse_dhcp(r);
    if (!is_guest4(r->l, from))
        return refuse(r->ret, FAULT_SOURCE);
    if (address_class(&r->ret->there) == ADDRESS_MULTICAST)
        refuse(r->ret, FAULT_MULTICAST);
}

/* ---- IPv6 ---- */

static void parse_icmpv6(struct reading *r, const uint8_t *source)
{
    parse_icmp(r, ECHO6, ECHO6_REPLY, UNREACHABLE6);
    if (r->ret->kind == PACKET_ECHO || r->ret->kind == PACKET_ANSWER)
        r->ret->protocol = NET_ICMP;
    if (r->ret->kind != PACKET_QUIET || r->inward)
        return;
    if (r->p[0] == RA || r->p[0] == REDIRECT)
        return refuse(r->ret, FAULT_CLAIM);
    if (r->p[0] == RS || r->p[0] == NS || r->p[0] == NA)
        parse_nd(r, source);
}

static void parse_ipv6(struct reading *r)
{
    const uint8_t *p = r->p, *from = p + 8, *to = p + 24;
    if (r->n < IPV6_HEADER)
        return refuse(r->ret, FAULT_SHORT);
    if (p[0] >> 4 != 6)
        return refuse(r->ret, FAULT_HEADER);
    if (be16(p + 4) > r->n - IPV6_HEADER)
        return refuse(r->ret, FAULT_SHORT);
    r->ret->header = p;
    r->ret->header_len = IPV6_HEADER;
    r->ret->len = IPV6_HEADER + be16(p + 4);
    r->ret->protocol = p[6];
    r->ret->source = address_from6(r->inward ? to : from);
    r->ret->there = address_from6(r->inward ? from : to);
    r->p += IPV6_HEADER;
    r->n = r->ret->len - IPV6_HEADER;
    bool to_many = to[0] == 0xff;
    switch (p[6]) {
    case HOP_BY_HOP:
        /* Membership of groups has one (RFC 3810), with ICMPv6 behind it. */
        if (!to_many || r->n < 8 || r->p[0] != ICMPV6)
            return refuse(r->ret, FAULT_OPTIONS);
        r->ret->kind = PACKET_QUIET;
        break;
    case ICMPV6:
        parse_icmpv6(r, from);
        break;
    case FRAGMENT:
        return refuse(r->ret, FAULT_FRAGMENT);
    case ROUTING:
    case ESP:
    case AH:
    case DESTINATION:
        return refuse(r->ret, FAULT_OPTIONS);
    default:
        parse_transport(r);
    }
    if (r->inward || r->ret->kind == PACKET_REFUSED || r->ret->kind == PACKET_QUIET)
        return;
    bool nd = r->ret->kind == PACKET_ND;
    if (is_zero(from, 16) ? !nd : !is_guest6(r->l, from))
        return refuse(r->ret, FAULT_SOURCE);
    if (to_many && !nd)
        refuse(r->ret, FAULT_MULTICAST);
}

/* ---- Ethernet ---- */

static void parse(struct reading *r, size_t len)
{
    if (len > PACKET_MAX)
        return refuse(r->ret, FAULT_LONG);
    if (len < ETHERNET_HEADER)
        return refuse(r->ret, FAULT_SHORT);
    const uint8_t *e = r->ethernet;
    if (!r->inward && memcmp(e + 6, r->l->mac, 6) != 0) {
        if (memcmp(e + 6, r->l->first_mac, 6) != 0)
            return refuse(r->ret, FAULT_MAC);
        r->ret->kind = PACKET_QUIET;
        return;
    }
    r->p = e + ETHERNET_HEADER;
    r->n = len - ETHERNET_HEADER;
    uint16_t type = be16(e + 12);
    if (type == TYPE_IPV4)
        parse_ipv4(r);
    else if (type == TYPE_IPV6)
        parse_ipv6(r);
    else if (type == TYPE_ARP)
        parse_arp(r);
    else if (type == TYPE_RARP)
        r->ret->kind = PACKET_QUIET; /* a restored card's VMM says where it is now */
    else
        refuse(r->ret, FAULT_TYPE);
    /* One machine's packet in a frame for many. */
    bool single = r->ret->kind >= PACKET_TCP;
    if (!r->inward && (e[0] & 1) && single)
        refuse(r->ret, FAULT_MULTICAST);
}

void packet_parse(const struct net_link *l, const uint8_t *frame, size_t len, struct packet *ret)
{
    *ret = (struct packet){.v6 = len >= ETHERNET_HEADER && be16(frame + 12) == TYPE_IPV6};
    parse(&(struct reading){.l = l, .ethernet = frame, .ret = ret}, len);
}

void packet_parse_inward(const struct net_link *l, const uint8_t *frame, size_t len, struct packet *ret)
{
    *ret = (struct packet){.v6 = len >= ETHERNET_HEADER && be16(frame + 12) == TYPE_IPV6};
    parse(&(struct reading){.l = l, .ethernet = frame, .ret = ret, .inward = true}, len);
}

bool packet_announces(const uint8_t *f, size_t len)
{
    static const uint8_t unspecified[16];
    if (len < ETHERNET_HEADER + ARP_SIZE)
        return false;
    const uint8_t *p = f + ETHERNET_HEADER;
    uint16_t type = be16(f + 12);
    if (type == TYPE_ARP)
        return memcmp(p + 14, p + 24, 4) == 0;
    if (type != TYPE_IPV6 || len <= ETHERNET_HEADER + IPV6_HEADER)
        return type == TYPE_RARP || (type == TYPE_IPV4 && p[9] == IGMP);
    bool probe = p[6] == ICMPV6 && p[IPV6_HEADER] == NS && memcmp(p + 8, unspecified, sizeof(unspecified)) == 0;
    return p[6] == HOP_BY_HOP || probe;
}
