#include "base/clock.h"
#include "base/macros.h"
#include "net/gate.h"
#include "net/layout.h"
#include "net/packet.h"
#include "net/reply.h"
#include "tap.h"
#include "wire_frames.h"

#include <string.h>

#define S NSEC_PER_SEC

static struct packet parse(const struct wire_frame *f)
{
    struct net_link l = test_link();
    struct packet p;
    /* In memory of its own size, so that a sanitizer sees what reads on. */
    CLEAN_FREE uint8_t *copy = malloc(f->n ? f->n : 1);
    if (!copy)
        abort();
    memcpy(copy, f->b, f->n);
    packet_parse(&l, copy, f->n, &p);
    return p;
}

static bool is(struct wire_frame f, enum packet_kind kind, enum packet_fault fault)
{
    struct packet p = parse(&f);
    if (p.kind != kind || p.fault != fault)
        printf("# kind %d, it %s\n", p.kind, packet_fault_words(p.fault));
    return p.kind == kind && p.fault == fault;
}

static bool refused(struct wire_frame f, enum packet_fault fault)
{
    return is(f, PACKET_REFUSED, fault);
}

/* The frame with bytes changed at an offset. */
static struct wire_frame with(struct wire_frame f, size_t at, const char *bytes, size_t n)
{
    memcpy(f.b + at, bytes, n);
    if (f.b[12] == 8 && f.b[13] == 0)
        wire_sum4(&f);
    return f;
}

static struct wire_frame cut(struct wire_frame f, size_t n)
{
    f.n = n;
    return f;
}

/* ---- IPv4 ---- */

static void test_ipv4(void)
{
    struct wire_frame tcp = wire_tcp("8.8.8.8", 443, TCP_SYN),
                      udp = wire_udp("10.0.2.15", "8.8.8.8", 5000, 53, "abc", 3);
    struct packet p = parse(&tcp);
    ok(p.kind == PACKET_TCP && p.port == 443 && p.source_port == 40000 && p.tcp_flags == TCP_SYN &&
           p.protocol == NET_TCP && !p.v6 && p.len == 40 && p.there.b[15] == 8,
       "a TCP packet is read");
    p = parse(&udp);
    ok(p.kind == PACKET_UDP && p.port == 53 && p.payload_len == 3, "a UDP packet is read");
    struct wire_frame padded = tcp;
    padded.n = 60;
    ok(is(padded, PACKET_TCP, FAULT_NONE), "a frame may be padded");
    ok(is(wire_icmp("10.0.2.15", "8.8.8.8", 8, 16), PACKET_ECHO, FAULT_NONE), "an echo request is read");
    ok(is(wire_icmp("10.0.2.15", "8.8.8.8", 5, 16), PACKET_QUIET, FAULT_NONE),
       "another ICMP message is dropped and not said");
    ok(is(wire_icmp("10.0.2.15", "8.8.8.8", 0, 16), PACKET_ANSWER, FAULT_NONE) &&
           is(wire_icmp("10.0.2.15", "8.8.8.8", 3, 16), PACKET_ANSWER, FAULT_NONE) &&
           refused(wire_icmp("10.0.2.16", "8.8.8.8", 0, 16), FAULT_SOURCE),
       "an echo reply and 'unreachable' are read as answers, from the guest's own address only");
    ok(is(with(wire_ip("10.0.2.15", "224.0.0.22", 2, 8), 14, "\x46", 1), PACKET_QUIET, FAULT_NONE),
       "a group membership with its option is dropped and not said");
    for (size_t n = 0; n < tcp.n; n++)
        if (!refused(cut(tcp, n), FAULT_SHORT)) {
            ok(false, "a TCP frame cut to %zu bytes is refused", n);
            break;
        }
    ok(refused(cut(udp, udp.n - 1), FAULT_SHORT), "a cut UDP frame is refused");
    ok(refused(with(tcp, 14, "\x55", 1), FAULT_HEADER), "another version of IP is refused");
    ok(refused(with(tcp, 14, "\x44", 1), FAULT_HEADER), "a header of less than 20 bytes is refused");
    ok(refused(with(tcp, 14, "\x46", 1), FAULT_OPTIONS), "options are refused");
    ok(refused(with(tcp, 16, "\0\x13", 2), FAULT_HEADER), "a length of less than the header is refused");
    ok(refused(with(tcp, 16, "\x40\0", 2), FAULT_SHORT), "a length of more than the frame is refused");
    ok(refused(with(tcp, 16, "\0\x20", 2), FAULT_SHORT), "a TCP header that ends outside of its packet is refused");
    ok(refused(with(tcp, 20, "\x20\0", 2), FAULT_FRAGMENT), "a first fragment is refused");
    ok(refused(with(tcp, 20, "\0\x01", 2), FAULT_FRAGMENT), "a later fragment is refused");
    ok(refused(with(tcp, 20, "\x80\0", 2), FAULT_FRAGMENT), "the reserved bit is refused");
    ok(is(with(tcp, 20, "\x40\0", 2), PACKET_TCP, FAULT_NONE), "what may not be cut passes");
    struct wire_frame sum = tcp;
    sum.b[24] ^= 1;
    ok(refused(sum, FAULT_HEADER), "a wrong checksum of the header is refused");
    ok(refused(with(tcp, 46, "\x40", 1), FAULT_HEADER), "a TCP header of less than 20 bytes is refused");
    ok(refused(with(tcp, 46, "\xf0", 1), FAULT_SHORT), "a TCP header of more than the packet is refused");
    ok(refused(with(udp, 38, "\0\x07", 2), FAULT_HEADER), "a UDP length of less than its header is refused");
    ok(refused(with(udp, 38, "\0\xff", 2), FAULT_SHORT), "a UDP length of more than the packet is refused");
    ok(refused(with(tcp, 23, "\x84", 1), FAULT_PROTOCOL), "SCTP is refused");
    ok(refused(wire_ip("10.0.2.15", "8.8.8.8", 41, 60), FAULT_PROTOCOL), "IPv6 within IPv4 is refused");
    ok(refused(wire_ip("10.0.2.15", "8.8.8.8", 4, 60), FAULT_PROTOCOL), "IPv4 within IPv4 is refused");
    ok(refused(with(tcp, 26, "\x0a\0\x02\x10", 4), FAULT_SOURCE), "another's source address is refused");
    ok(refused(with(tcp, 26, "\0\0\0\0", 4), FAULT_SOURCE), "no source address is refused");
    ok(refused(with(tcp, 6, "\x52\x54\0\x12\x34\x57", 6), FAULT_MAC), "another's source MAC is refused");
    ok(refused(with(tcp, 0, "\xff\xff\xff\xff\xff\xff", 6), FAULT_MULTICAST),
       "one machine's packet in a frame for all is refused");
    ok(refused(wire_udp("10.0.2.15", "224.0.0.251", 5353, 5353, "", 0), FAULT_MULTICAST), "multicast is refused");
    ok(refused(wire_udp("10.0.2.15", "255.255.255.255", 5000, 5000, "", 0), FAULT_MULTICAST), "broadcast is refused");
    ok(refused(wire_ethernet(0x8100), FAULT_TYPE), "a VLAN's frame is refused");
    ok(is(wire_ethernet(0x8035), PACKET_QUIET, FAULT_NONE),
       "what a VMM says for a restored card is dropped and not said");
    struct net_link l = test_link();
    CLEAN_FREE uint8_t *large = calloc(1, PACKET_MAX + 1);
    packet_parse(&l, large, PACKET_MAX + 1, &p);
    ok(p.kind == PACKET_REFUSED && p.fault == FAULT_LONG, "a frame of more than %d bytes is refused", PACKET_MAX);
}

/* ---- IPv6 ---- */

static void test_ipv6(void)
{
    struct wire_frame tcp = wire_tcp("2606:4700::1", 443, TCP_SYN);
    struct packet p = parse(&tcp);
    ok(p.kind == PACKET_TCP && p.v6 && p.port == 443 && p.len == 60, "a TCP packet over IPv6 is read");
    for (size_t n = 0; n < tcp.n; n++)
        if (!refused(cut(tcp, n), FAULT_SHORT)) {
            ok(false, "a TCP frame over IPv6 cut to %zu bytes is refused", n);
            break;
        }
    ok(is(wire_icmp("fd6d:766d::15", "2606:4700::1", 128, 16), PACKET_ECHO, FAULT_NONE),
       "an echo request over IPv6 is read");
    ok(is(wire_icmp("fe80::5054:ff:fe12:3456", "fd6d:766d::2", 128, 16), PACKET_ECHO, FAULT_NONE),
       "the link-local address of the guest's MAC is the guest's");
    ok(is(wire_icmp("fd6d:766d::5054:ff:fe12:3456", "fd6d:766d::2", 128, 16), PACKET_ECHO, FAULT_NONE),
       "and that of the router's prefix is, too");
    ok(refused(wire_icmp("fe80::5054:ff:fe12:3457", "fd6d:766d::2", 128, 16), FAULT_SOURCE),
       "another's link-local address is refused");
    ok(refused(wire_icmp("fd6d:766d::16", "fd6d:766d::2", 128, 16), FAULT_SOURCE), "another's address is refused");
    ok(refused(wire_icmp("::", "fd6d:766d::2", 128, 16), FAULT_SOURCE), "no source address over IPv6 is refused");
    ok(refused(wire_icmp("::ffff:10.0.2.15", "fd6d:766d::2", 128, 16), FAULT_SOURCE),
       "the guest's IPv4 address over IPv6 is refused");
    ok(refused(with(tcp, 14, "\x40", 1), FAULT_HEADER), "IPv4 in a frame of IPv6 is refused");
    static const uint8_t extensions[] = {0, 43, 50, 51, 60, 135, 139, 140};
    for (size_t i = 0; i < ARRAY_SIZE(extensions); i++) {
        struct wire_frame f = wire_ip("fd6d:766d::15", "2606:4700::1", extensions[i], 80);
        p = parse(&f);
        ok(p.kind == PACKET_REFUSED, "the extension header %d is refused", extensions[i]);
    }
    ok(refused(wire_ip("fd6d:766d::15", "2606:4700::1", 44, 80), FAULT_FRAGMENT),
       "a fragment of IPv6 is refused, a whole one too");
    ok(is(with(wire_ip("fe80::5054:ff:fe12:3456", "ff02::16", 0, 36), 54, "\x3a\0\x05\x02\0\0\x01\0\x8f", 9),
          PACKET_QUIET, FAULT_NONE),
       "a membership of IPv6 groups is dropped and not said");
    ok(refused(with(wire_ip("fd6d:766d::15", "ff02::16", 0, 36), 54, "\x06", 1), FAULT_OPTIONS),
       "TCP behind a header for every hop is refused");
    ok(refused(wire_udp("fd6d:766d::15", "ff02::fb", 5353, 5353, "", 0), FAULT_MULTICAST),
       "multicast over IPv6 is refused");
    struct wire_frame mapped = wire_tcp("::ffff:127.0.0.1", 80, TCP_SYN);
    p = parse(&mapped);
    ok(p.kind == PACKET_TCP && p.v6 && address_class(&p.there) == ADDRESS_LOOPBACK,
       "a mapped destination is seen as what it wraps");
}

/* ---- Neighbours, ARP, DHCP ---- */

/* A neighbour or router message; its target, and an option of a kind with a MAC. */
static struct wire_frame nd(uint8_t type, const char *from, const char *to, const char *target, uint8_t option,
                            const char *mac)
{
    size_t fixed = type == 133 ? 8 : 24;
    struct wire_frame f = wire_icmp(from, to, type, fixed + (option ? 8 : 0));
    uint8_t *p = wire_behind_ip(&f);
    if (target)
        inet_pton(AF_INET6, target, p + 8);
    if (option) {
        p[fixed] = option;
        p[fixed + 1] = 1;
        memcpy(p + fixed + 2, mac, 6);
    }
    return f;
}

static void test_nd(void)
{
    static const char other[] = "\x52\x54\0\x12\x34\x57", own[] = GUEST_MAC, link[] = "fe80::5054:ff:fe12:3456",
                      mine[] = "fd6d:766d::15";
    ok(is(nd(135, link, "ff02::1:ff00:2", "fd6d:766d::2", 1, own), PACKET_ND, FAULT_NONE),
       "a guest may ask for a neighbour");
    ok(is(nd(135, "::", "ff02::1:ff12:3456", link, 0, NULL), PACKET_ND, FAULT_NONE),
       "and for its own address before it has it");
    ok(is(nd(136, mine, "fd6d:766d::2", mine, 2, own), PACKET_ND, FAULT_NONE), "a guest may say that it is itself");
    ok(is(nd(133, link, "ff02::2", NULL, 1, own), PACKET_ND, FAULT_NONE), "a guest may ask for routers");
    ok(refused(nd(135, "::", "ff02::1:ff00:2", "fd6d:766d::2", 0, NULL), FAULT_CLAIM),
       "it may not ask as though the router's address were its own");
    ok(refused(nd(136, mine, "ff02::1", "fd6d:766d::2", 2, own), FAULT_CLAIM),
       "a guest may not say that it is the router");
    ok(refused(nd(136, "fd6d:766d::2", "ff02::1", mine, 2, own), FAULT_SOURCE),
       "nor in the router's name that it is itself");
    ok(refused(nd(136, mine, "ff02::1", mine, 2, other), FAULT_CLAIM),
       "a guest may not say that another's MAC has its address");
    ok(refused(nd(135, link, "ff02::1:ff00:2", "fd6d:766d::2", 1, other), FAULT_CLAIM), "nor ask with another's MAC");
    ok(refused(nd(136, "::", "ff02::1", mine, 2, own), FAULT_SOURCE), "nor say so without an address");
    ok(refused(nd(134, link, "ff02::1", NULL, 0, NULL), FAULT_CLAIM), "a guest is no router");
    ok(refused(nd(137, link, "ff02::1", NULL, 0, NULL), FAULT_CLAIM), "a guest redirects nobody");
    ok(refused(with(nd(135, link, "ff02::1:ff00:2", "fd6d:766d::2", 1, own), 21, "\x40", 1), FAULT_HEADER),
       "a neighbour message that came over a router is refused");
    struct wire_frame f = nd(135, link, "ff02::1:ff00:2", "fd6d:766d::2", 1, own);
    ok(refused(with(f, 14 + 40 + 25, "\0", 1), FAULT_HEADER), "an option of no length is refused");
    ok(refused(with(f, 14 + 40 + 25, "\x02", 1), FAULT_HEADER), "an option that is longer than the message is refused");
}

static struct wire_frame arp(uint8_t op, const char *mac, const char *from, const char *target)
{
    struct wire_frame f = wire_ethernet(0x0806);
    memcpy(f.b + 14, "\0\x01\x08\0\x06\x04\0", 7);
    f.b[21] = op;
    memcpy(f.b + 22, mac, 6);
    inet_pton(AF_INET, from, f.b + 28);
    inet_pton(AF_INET, target, f.b + 38);
    f.n = 42;
    return f;
}

static struct wire_frame dhcp(const char *from, const char *to, const char *mac)
{
    uint8_t bootp[240] = {1, 1, 6};
    memcpy(bootp + 28, mac, 6);
    struct wire_frame f = wire_udp(from, to, 68, 67, bootp, sizeof(bootp));
    memset(f.b, 0xff, 6);
    return f;
}

static void test_arp_dhcp(void)
{
    static const char own[] = GUEST_MAC, other[] = "\x52\x54\0\x12\x34\x57";
    ok(is(arp(1, own, "10.0.2.15", "10.0.2.2"), PACKET_ARP, FAULT_NONE), "a guest may ask by ARP");
    ok(is(arp(1, own, "0.0.0.0", "10.0.2.15"), PACKET_ARP, FAULT_NONE), "and before it has an address");
    ok(is(arp(2, own, "10.0.2.15", "10.0.2.2"), PACKET_ARP, FAULT_NONE), "and answer for itself");
    ok(refused(arp(1, own, "10.0.2.2", "10.0.2.2"), FAULT_CLAIM), "ARP for the router's address is refused");
    ok(refused(arp(2, own, "0.0.0.0", "10.0.2.2"), FAULT_CLAIM), "an ARP answer for no address is refused");
    ok(refused(arp(1, other, "10.0.2.15", "10.0.2.2"), FAULT_CLAIM), "ARP with another's MAC is refused");
    ok(refused(arp(3, own, "10.0.2.15", "10.0.2.2"), FAULT_HEADER), "another operation of ARP is refused");
    ok(refused(cut(arp(1, own, "10.0.2.15", "10.0.2.2"), 41), FAULT_SHORT), "a cut ARP message is refused");
    ok(is(dhcp("0.0.0.0", "255.255.255.255", own), PACKET_DHCP, FAULT_NONE), "a guest may ask by DHCP");
    ok(is(dhcp("10.0.2.15", "10.0.2.2", own), PACKET_DHCP, FAULT_NONE), "and renew its lease");
    ok(refused(dhcp("0.0.0.0", "255.255.255.255", other), FAULT_CLAIM), "DHCP for another's MAC is refused");
    ok(refused(dhcp("10.0.2.16", "255.255.255.255", own), FAULT_SOURCE), "DHCP from another's address is refused");
    ok(refused(with(dhcp("0.0.0.0", "255.255.255.255", own), 42, "\x02", 1), FAULT_CLAIM), "a guest is no DHCP server");
    ok(refused(wire_udp("0.0.0.0", "255.255.255.255", 68, 67, "", 0), FAULT_SHORT), "a cut DHCP message is refused");
}

/* ---- Replies ---- */

static uint32_t sum_up(uint32_t s, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return s;
}

/* Both checksums of a frame of ours hold. */
static bool sums_hold(const uint8_t *f, size_t n)
{
    bool v6 = f[12] == 0x86;
    size_t header = v6 ? 40 : 20, len = n - 14 - header;
    const uint8_t *ip = f + 14, *data = ip + header;
    uint8_t protocol = v6 ? ip[6] : ip[9];
    uint32_t pseudo = protocol == 1 ? 0 : protocol + (uint32_t)len + sum_up(0, v6 ? ip + 8 : ip + 12, v6 ? 32 : 8);
    return (v6 || sum_up(0, ip, 20) == 0xffff) && sum_up(pseudo, data, len) == 0xffff;
}

static void test_replies(void)
{
    struct net_link l = test_link();
    struct wire_frame asked[] = {wire_udp("10.0.2.15", "10.0.2.3", 5000, 53, "abc", 3),
                                 wire_udp("fd6d:766d::15", "fd6d:766d::3", 5000, 53, "abc", 3)};
    for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
        struct packet p = parse(&asked[i]), back;
        struct reply_to to;
        uint8_t frame[200];
        reply_to_packet(asked[i].b, &p, &to);
        size_t n = reply_udp(&to, (const uint8_t *)"hello", 5, frame, sizeof(frame));
        packet_parse_inward(&l, frame, n, &back);
        ok(n == 14 + (i ? 40u : 20u) + 8 + 5 && sums_hold(frame, n) && memcmp(frame, GUEST_MAC, 6) == 0 &&
               back.kind == PACKET_UDP && back.port == 53 && back.source_port == 5000 &&
               address_equal(&back.there, &to.ours) && back.payload_len == 5 && memcmp(back.payload, "hello", 5) == 0,
           "an answer over %s is what was asked for", i ? "IPv6" : "IPv4");
        ok(reply_udp(&to, frame, 100, frame, 100) == 0, "an answer that does not fit is none");
    }
    struct wire_frame denied[] = {wire_tcp("10.0.0.5", 443, TCP_SYN), wire_tcp("fd00::5", 443, TCP_SYN),
                                  wire_udp("10.0.2.15", "10.0.0.5", 1, 2, "", 0)};
    for (size_t i = 0; i < ARRAY_SIZE(denied); i++) {
        struct packet p;
        uint8_t out[REPLY_REJECTION];
        packet_parse(&l, denied[i].b, denied[i].n, &p);
        size_t n = reply_rejection(&l, denied[i].b, &p, out), header = p.v6 ? 40 : 20;
        const uint8_t *icmp = out + 14 + header;
        ok(n == 14 + header + 8 + header + 8 && sums_hold(out, n) && icmp[0] == (p.v6 ? 1 : 3) &&
               icmp[1] == (p.v6 ? 1 : 13) && memcmp(icmp + 8, p.header, header + 8) == 0,
           "a denied packet %zu is quoted in an ICMP message that says so", i);
    }
    struct wire_frame reset = wire_tcp("10.0.0.5", 443, TCP_RST);
    struct packet p;
    uint8_t out[REPLY_REJECTION];
    packet_parse(&l, reset.b, reset.n, &p);
    ok(reply_rejection(&l, reset.b, &p, out) == 0, "a reset is not answered");
}

/* ---- The gate ---- */

struct gated {
    struct gate gate;
    struct policy policy;
    struct gate_result last;
    const char *own; /* of the host */
};

static bool is_own(void *data, const struct address *a)
{
    struct address own = ip_of(((struct gated *)data)->own);
    return address_equal(a, &own);
}

static void begin(struct gated *g, enum policy_kind kind, const char *const *rules, uint32_t max)
{
    struct net_link l = test_link();
    *g = (struct gated){.own = "9.9.9.9"};
    if (policy_init(&g->policy, NULL) < 0 || policy_add_layer(&g->policy, kind, NULL) < 0)
        abort();
    for (; rules && *rules; rules++)
        if (policy_allow(&g->policy, *rules, NULL) < 0)
            abort();
    if (gate_init(&g->gate, &l, &g->policy, max, 42, 0, NULL) < 0)
        abort();
    g->gate.is_own = is_own;
    g->gate.is_own_data = g;
}

static void end(struct gated *g)
{
    gate_done(&g->gate);
    policy_done(&g->policy);
}

static enum gate_action emit(struct gated *g, struct wire_frame f, uint64_t now)
{
    gate_from_guest(&g->gate, f.b, f.n, now, &g->last);
    return g->last.action;
}

static enum gate_action syn(struct gated *g, const char *to, uint16_t port)
{
    return emit(g, wire_tcp(to, port, TCP_SYN), 0);
}

/* What comes from there to the guest, as libslirp makes it. */
static bool arrives(struct gated *g, const char *from, const char *to, uint16_t from_port, uint16_t to_port)
{
    struct wire_frame f = wire_udp(from, to, from_port, to_port, "x", 1);
    memcpy(f.b, GUEST_MAC, 6);
    memcpy(f.b + 6, "\x52\x55\x0a\0\x02\x02", 6);
    return gate_to_guest(&g->gate, f.b, f.n, 0);
}

static void test_gate_public(void)
{
    struct gated g;
    begin(&g, POLICY_PUBLIC, NULL, 0);
    ok(syn(&g, "8.8.8.8", 443) == GATE_PASS && syn(&g, "2606:4700::1", 443) == GATE_PASS && !*g.last.said,
       "public addresses pass");
    static const char *const closed[] = {"10.0.0.5",
                                         "127.0.0.1",
                                         "127.1.2.3",
                                         "0.0.0.0",
                                         "169.254.169.254",
                                         "192.168.1.1",
                                         "172.16.0.1",
                                         "100.64.0.1",
                                         "100.100.100.200",
                                         "168.63.129.16",
                                         "198.18.0.1",
                                         "240.0.0.1",
                                         "::1",
                                         "::",
                                         "fd00::1",
                                         "fec0::1",
                                         "fe80::1",
                                         "fe80::2",
                                         "::ffff:10.0.0.5",
                                         "::ffff:127.0.0.1",
                                         "::ffff:10.0.2.2",
                                         "::ffff:10.0.2.3",
                                         "::127.0.0.1",
                                         "64:ff9b::7f00:1",
                                         "64:ff9b::a00:202",
                                         "64:ff9b:1::7f00:1",
                                         "2002:7f00:1::",
                                         "2001:0:7f00:1::",
                                         "2001:db8::1",
                                         "::ffff:0:127.0.0.1",
                                         "10.0.2.2",
                                         "10.0.2.3",
                                         "10.0.2.4",
                                         "10.0.2.255",
                                         "10.0.2.15",
                                         "fd6d:766d::2",
                                         "fd6d:766d::3",
                                         "fd6d:766d::ffff"};
    for (size_t i = 0; i < ARRAY_SIZE(closed); i++)
        ok(syn(&g, closed[i], 80) == GATE_REPLY && g.last.reply_len, "a connection to %s is rejected at once",
           closed[i]);
    ok(g.gate.count.denied == ARRAY_SIZE(closed), "what is denied is counted");
    ok(syn(&g, "9.9.9.9", 443) == GATE_REPLY && strstr(g.last.said, "an address of this host"),
       "the host's own public address is closed");
    ok(syn(&g, "10.9.9.9", 443) == GATE_REPLY &&
           strstr(g.last.said, "TCP to 10.9.9.9:443 was denied: a private address") &&
           strstr(g.last.said, "--allow 10.9.9.9:443"),
       "a denial is said with its flag (%s)", g.last.said);
    ok(syn(&g, "10.9.9.9", 443) == GATE_REPLY && !*g.last.said, "the next one is not said");
    syn(&g, "10.0.2.2", 8080);
    ok(strstr(g.last.said, "--allow host:8080"), "the host's loopback is said with its flag (%s)", g.last.said);
    ok(emit(&g, wire_udp("10.0.2.15", "10.0.2.2", 1, 53, "", 0), 0) == GATE_REPLY && strstr(g.last.said, "TCP only") &&
           !strstr(g.last.said, "--allow"),
       "UDP to the host's loopback is denied with the reason");
    ok(emit(&g, wire_icmp("10.0.2.15", "10.0.2.2", 8, 16), 0) == GATE_PASS &&
           emit(&g, wire_icmp("10.0.2.15", "10.0.2.4", 8, 16), 0) == GATE_DROP,
       "the router answers echo requests, others of the subnet do not");
    ok(emit(&g, wire_icmp("10.0.2.15", "8.8.8.8", 8, 16), 0) == GATE_PASS &&
           emit(&g, wire_icmp("10.0.2.15", "10.0.0.5", 8, 16), 0) == GATE_DROP,
       "echo requests go by policy");
    ok(emit(&g, wire_udp("10.0.2.15", "8.8.8.8", 5000, 53, "q", 1), 0) == GATE_PASS,
       "under public other DNS servers may be asked");
    ok(emit(&g, with(wire_tcp("8.8.8.8", 1, TCP_SYN), 20, "\x20\0", 2), 60 * S) == GATE_DROP &&
           strstr(g.last.said, "is a fragment") && g.gate.count.refused[FAULT_FRAGMENT] == 1,
       "a refused frame is said and counted (%s)", g.last.said);
    ok(emit(&g, arp(1, GUEST_MAC, "10.0.2.15", "10.0.2.2"), 0) == GATE_PASS &&
           emit(&g, dhcp("0.0.0.0", "255.255.255.255", GUEST_MAC), 0) == GATE_PASS,
       "ARP and DHCP pass");
    ok(syn(&g, "10.0.2.3", 53) == GATE_DNS_STREAM && g.last.packet.port == 53, "DNS over TCP is handed out, too");
    ok(syn(&g, "10.0.2.3", 54) == GATE_REPLY, "another port of the answerer is closed");
    end(&g);
}

static void test_gate_inward(void)
{
    struct gated g;
    begin(&g, POLICY_PUBLIC, NULL, 0);
    ok(!arrives(&g, "8.8.8.8", "10.0.2.15", 53, 5000), "what the guest did not ask for does not arrive");
    emit(&g, wire_udp("10.0.2.15", "8.8.8.8", 5000, 53, "q", 1), 0);
    ok(arrives(&g, "8.8.8.8", "10.0.2.15", 53, 5000), "what answers a datagram arrives");
    ok(!arrives(&g, "8.8.8.8", "10.0.2.15", 54, 5000) && !arrives(&g, "8.8.4.4", "10.0.2.15", 53, 5000) &&
           !arrives(&g, "192.168.0.7", "10.0.2.15", 53, 5000) && !arrives(&g, "8.8.8.8", "10.0.2.15", 53, 5001),
       "another's datagram to the same port does not");
    ok(arrives(&g, "10.0.2.2", "255.255.255.255", 67, 68), "the router's DHCP arrives");
    ok(!arrives(&g, "192.168.0.7", "10.0.2.15", 67, 68), "another's DHCP does not");
    ok(g.gate.count.unasked == 6 && g.gate.count.frames_in == 2, "both are counted");
    struct wire_frame f = with(wire_udp("8.8.8.8", "10.0.2.15", 53, 5000, "x", 1), 20, "\x20\0", 2);
    f.b[14 + 20 + 4] = 9; /* of the whole datagram */
    ok(gate_to_guest(&g.gate, f.b, f.n, 0), "a first fragment of an answer arrives");
    f = wire_icmp("10.0.2.2", "10.0.2.15", 3, 36);
    ok(gate_to_guest(&g.gate, f.b, f.n, 0), "the router's ICMP errors arrive");
    end(&g);
}

static void test_gate_lists(void)
{
    struct gated g;
    begin(&g, POLICY_LISTED, (const char *const[]){"example.org:443", "host:8080", "9.9.9.9:80", "9.9.9.0/24:81", NULL},
          4);
    ok(syn(&g, "8.8.8.8", 443) == GATE_REPLY &&
           strstr(g.last.said, "no rule allows it; allowed with --allow 8.8.8.8:443"),
       "under a list a public address is closed (%s)", g.last.said);
    ok(emit(&g, wire_udp("10.0.2.15", "8.8.8.8", 5000, 53, "q", 1), 0) == GATE_REPLY,
       "under a list no other DNS server may be asked");
    ok(emit(&g, wire_udp("10.0.2.15", "10.0.2.3", 5000, 53, "query", 5), 0) == GATE_DNS && g.last.query_len == 5 &&
           memcmp(g.last.query, "query", 5) == 0 && g.last.asker.guest_port == 5000 && g.gate.count.queries == 1,
       "a query goes to the answerer");
    ok(emit(&g, wire_udp("fd6d:766d::15", "fd6d:766d::3", 5000, 53, "query", 5), 0) == GATE_DNS && g.last.asker.v6,
       "over IPv6, too");
    ok(emit(&g, wire_udp("fd6d:766d::15", "::ffff:10.0.2.3", 5000, 53, "query", 5), 0) == GATE_REPLY,
       "but not to a form that leads elsewhere");
    struct address a = ip_of("8.8.8.8");
    policy_learn(&g.policy, "example.org", &a, 60, 0);
    ok(syn(&g, "8.8.8.8", 443) == GATE_PASS && emit(&g, wire_tcp("8.8.8.8", 443, TCP_ACK), S) == GATE_PASS,
       "what a name answered is open");
    ok(emit(&g, wire_tcp("8.8.8.8", 443, TCP_ACK), 100 * S) == GATE_PASS,
       "an open connection stays when its answer has ended");
    ok(emit(&g, wire_tcp("8.8.8.8", 443, TCP_SYN), 100 * S) == GATE_REPLY, "a new one on the same ports does not open");
    ok(syn(&g, "10.0.2.2", 8080) == GATE_PASS && syn(&g, "10.0.2.2", 8081) == GATE_REPLY &&
           syn(&g, "fd6d:766d::2", 8080) == GATE_REPLY && syn(&g, "::ffff:10.0.2.2", 8080) == GATE_REPLY,
       "host:8080 opens that port of the host's loopback, over IPv4");
    ok(syn(&g, "9.9.9.9", 80) == GATE_PASS && syn(&g, "9.9.9.9", 81) == GATE_REPLY &&
           syn(&g, "9.9.9.8", 81) == GATE_PASS,
       "an address of the host's own is open where a rule names it alone");
    ok(syn(&g, "9.9.9.7", 81) == GATE_PASS && syn(&g, "9.9.9.6", 81) == GATE_REPLY &&
           strstr(g.last.said, "4 connections are open already") && g.gate.count.full == 1,
       "more connections than fit are refused with the reason (%s)", g.last.said);
    end(&g);
}

/* ---- Members of its network ---- */

/* As member 1 sends it; from: another member's number. */
static struct wire_frame of_member(unsigned from, const char *source, const char *to)
{
    struct wire_frame f = wire_udp(source, to, 5000, 7, "hello", 5);
    layout_mac(from, f.b + 6);
    return f;
}

static bool arrives_from(struct gated *g, unsigned peer, struct wire_frame f, char said[GATE_LINE])
{
    const struct net_link wire = layout_link(peer);
    return gate_from_peer(&g->gate, &wire, "db", f.b, f.n, 0, said);
}

static void test_layout(void)
{
    struct layout_texts t;
    const struct address alone = ip_of(NET_GUEST), subnet6 = ip_of(NET_SUBNET6);
    struct address first = layout_address(0);
    bool found = true;
    ok(address_equal(&alone, &first), "a VM that is alone has the address that it always had");
    layout_texts(0, &t);
    ok(strcmp(t.mac, NET_MAC) == 0 && strcmp(t.address, NET_GUEST) == 0 &&
           strcmp(t.address6, "fd6d:766d::5054:ff:fe12:3456") == 0,
       "and the MAC that the VMM is told (%s %s %s)", t.mac, t.address, t.address6);
    for (unsigned i = 0; i <= NET_MEMBERS; i++) {
        const struct address v4 = layout_address(i), v6 = layout_address6(i);
        const struct net_link l = layout_link(i);
        found &= layout_member(&v4) == i && layout_member(&v6) == i && prefix_has(&l.net4, &v4) &&
                 prefix_has(&l.net6, &v6) && memcmp(v6.b, subnet6.b, 8) == 0;
    }
    ok(found, "members are found by their addresses, which are of the network");
    static const char *const others[] = {"10.0.2.2", "10.0.2.14", "10.0.2.48", "10.0.3.16", "fd6d:766d::2", "8.8.8.8"};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        const struct address a = ip_of(others[i]);
        ok(layout_member(&a) == 0, "%s is no member's", others[i]);
    }
}

static void test_gate_members(void)
{
    struct gated g;
    char said[GATE_LINE];
    begin(&g, POLICY_NONE, NULL, 0);
    g.gate.link = layout_link(1);
    struct wire_frame f = of_member(1, "10.0.2.16", "10.0.2.17");
    ok(emit(&g, f, 0) != GATE_PEER, "who is alone has no members");
    g.gate.member = 1;
    ok(emit(&g, f, 61 * S) == GATE_REPLY && strstr(g.last.said, "no VM of its network has this address"),
       "a member that is not there is told so at once (%s)", g.last.said);
    g.gate.present = 1 << 2;
    ok(emit(&g, f, 0) == GATE_PEER && g.last.peer == 2, "one that is there gets the frame");
    ok(emit(&g, of_member(1, "10.0.2.17", "10.0.2.17"), 0) == GATE_DROP, "from no address but the guest's own");
    ok(emit(&g, of_member(1, "10.0.2.16", "10.0.2.18"), 0) == GATE_REPLY, "another one is not there");
    ok(emit(&g, of_member(0, "10.0.2.16", "10.0.2.17"), 0) == GATE_DROP && !*g.last.said,
       "a guest whose agent has not set its MAC yet is not served, and nothing is said");
    f = arp(1, GUEST_MAC, "10.0.2.16", "10.0.2.17");
    layout_mac(1, f.b + 6);
    layout_mac(1, f.b + 22);
    ok(emit(&g, f, 0) == GATE_REPLY && g.last.reply_len == 42 && g.last.reply[21] == 2 &&
           memcmp(g.last.reply + 28, f.b + 38, 4) == 0 && g.last.reply[27] == 0x58,
       "its MAC is told by ARP");
    ok(arrives_from(&g, 2, of_member(2, "10.0.2.17", "10.0.2.16"), said) && !*said, "a member's frame arrives");
    ok(!arrives_from(&g, 2, of_member(2, "10.0.2.18", "10.0.2.16"), said) &&
           strcmp(said, "a frame of the VM db was dropped: it has another source address than the VM's") == 0,
       "not with another's address (%s)", said);
    ok(!arrives_from(&g, 2, of_member(3, "10.0.2.17", "10.0.2.16"), said) && strstr(said, "MAC"),
       "not with another's MAC (%s)", said);
    ok(!arrives_from(&g, 2, of_member(2, "10.0.2.17", "10.0.2.18"), said) && strstr(said, "not for this VM"),
       "not one for another (%s)", said);
    f = arp(2, GUEST_MAC, "10.0.2.17", "10.0.2.16");
    layout_mac(2, f.b + 6);
    layout_mac(2, f.b + 22);
    ok(!arrives_from(&g, 2, f, said), "and nothing but TCP, UDP and ICMP");
    end(&g);
}

static void test_gate_note(void)
{
    struct gated g;
    char said[GATE_LINE];
    begin(&g, POLICY_LISTED, NULL, 0);
    gate_note(&g.gate, "example.org", "denied", 0, said);
    ok(strcmp(said, "denied") == 0, "the answerer's denials are said");
    gate_note(&g.gate, "example.org", "denied", S, said);
    ok(!*said, "a denial of the answerer's is said once a minute");
    gate_note(&g.gate, "example.org", "denied", 61 * S, said);
    ok(strcmp(said, "denied (and 1 more like it)") == 0, "the next minute's says how many went unsaid (%s)", said);
    end(&g);
}

int main(void)
{
    test_ipv4();
    test_ipv6();
    test_nd();
    test_arp_dhcp();
    test_replies();
    test_gate_public();
    test_gate_inward();
    test_gate_lists();
    test_layout();
    test_gate_members();
    test_gate_note();
    return tap_end();
}
