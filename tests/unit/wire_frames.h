/* Ethernet frames as a guest makes them, for the tests of src/net: in order unless the test spoils them. */
#pragma once

#include "net/packet.h"
#include "net/rule.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define GUEST_MAC "\x52\x54\x00\x12\x34\x56"

struct wire_frame {
    uint8_t b[2048];
    size_t n;
};

__attribute__((unused)) static struct address ip_of(const char *text)
{
    struct address a;
    if (address_parse(text, &a) < 0)
        abort();
    return a;
}

/* The wire of the tests' VM. */
__attribute__((unused)) static struct net_link test_link(void)
{
    struct net_link l = {
        .guest4 = ip_of("10.0.2.15"),
        .router4 = ip_of("10.0.2.2"),
        .dns4 = ip_of("10.0.2.3"),
        .host4 = ip_of("10.0.2.2"),
        .net4 = {ip_of("10.0.2.0"), 96 + 24},
        .guest6 = ip_of("fd6d:766d::15"),
        .router6 = ip_of("fd6d:766d::2"),
        .dns6 = ip_of("fd6d:766d::3"),
        .net6 = {ip_of("fd6d:766d::"), 64},
    };
    memcpy(l.mac, GUEST_MAC, 6);
    return l;
}

static void wire_put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

__attribute__((unused)) static void wire_sum4(struct wire_frame *f)
{
    uint32_t s = 0;
    wire_put16(f->b + 24, 0);
    for (int i = 14; i < 34; i += 2)
        s += (uint32_t)(f->b[i] << 8 | f->b[i + 1]);
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    wire_put16(f->b + 24, (uint16_t)~s);
}

__attribute__((unused)) static struct wire_frame wire_ethernet(unsigned type)
{
    struct wire_frame f = {.n = 14};
    memcpy(f.b, "\x52\x55\x0a\x00\x02\x02" GUEST_MAC, 12);
    wire_put16(f.b + 12, type);
    return f;
}

/* An IP header and len zeros behind it. `to` may be given in the form of IPv6 that wraps IPv4: it stays so. */
__attribute__((unused)) static struct wire_frame wire_ip(const char *from, const char *to, uint8_t protocol, size_t len)
{
    bool v6 = strchr(to, ':') != NULL;
    struct wire_frame f = wire_ethernet(v6 ? 0x86dd : 0x0800);
    uint8_t *p = f.b + 14;
    if (v6) {
        p[0] = 0x60;
        wire_put16(p + 4, len);
        p[6] = protocol;
        p[7] = 255;
        inet_pton(AF_INET6, from, p + 8);
        inet_pton(AF_INET6, to, p + 24);
        f.n += 40 + len;
        return f;
    }
    p[0] = 0x45;
    wire_put16(p + 2, 20 + len);
    p[8] = 64;
    p[9] = protocol;
    inet_pton(AF_INET, from, p + 12);
    inet_pton(AF_INET, to, p + 16);
    f.n += 20 + len;
    wire_sum4(&f);
    return f;
}

/* From the guest's own address. */
__attribute__((unused)) static const char *wire_guest(const char *to)
{
    return strchr(to, ':') ? "fd6d:766d::15" : "10.0.2.15";
}

__attribute__((unused)) static uint8_t *wire_behind_ip(struct wire_frame *f)
{
    return f->b + 14 + (f->b[12] == 0x86 ? 40 : 20);
}

__attribute__((unused)) static struct wire_frame wire_tcp(const char *to, uint16_t port, uint8_t flags)
{
    struct wire_frame f = wire_ip(wire_guest(to), to, NET_TCP, 20);
    uint8_t *p = wire_behind_ip(&f);
    wire_put16(p, 40000);
    wire_put16(p + 2, port);
    p[12] = 5 << 4;
    p[13] = flags;
    return f;
}

__attribute__((unused)) static struct wire_frame wire_udp(const char *from, const char *to, uint16_t source_port,
                                                          uint16_t port, const void *payload, size_t len)
{
    struct wire_frame f = wire_ip(from, to, NET_UDP, 8 + len);
    uint8_t *p = wire_behind_ip(&f);
    wire_put16(p, source_port);
    wire_put16(p + 2, port);
    wire_put16(p + 4, 8 + len);
    if (len)
        memcpy(p + 8, payload, len);
    return f;
}

/* ICMP and ICMPv6. */
__attribute__((unused)) static struct wire_frame wire_icmp(const char *from, const char *to, uint8_t type, size_t len)
{
    struct wire_frame f = wire_ip(from, to, strchr(to, ':') ? 58 : 1, len);
    wire_behind_ip(&f)[0] = type;
    return f;
}
