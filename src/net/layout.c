#include "net/layout.h"
#include "base/macros.h"

#include <stdio.h>
#include <string.h>

/* Of a VM that is alone; members' differ in the last byte, by their number. */
static const uint8_t first_mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
static const struct address first4 = {{[10] = 0xff, 0xff, 10, 0, 2, 15}};
static const struct address net6 = {{0xfd, 0x6d, 0x76, 0x6d}};

static struct address address_of(const char *text)
{
    struct address a = {0};
    (void)!address_parse(text, &a);
    return a;
}

void layout_mac(unsigned member, uint8_t ret[static 6])
{
    memcpy(ret, first_mac, 6);
    ret[5] = (uint8_t)(ret[5] + member);
}

struct address layout_address(unsigned member)
{
    struct address a = first4;
    a.b[15] = (uint8_t)(a.b[15] + member);
    return a;
}

struct address layout_address6(unsigned member)
{
    uint8_t mac[6];
    layout_mac(member, mac);
    return address_eui64(&net6, mac);
}

unsigned layout_member(const struct address *a)
{
    const struct address first = address_is4(a) ? first4 : address_eui64(&net6, first_mac);
    unsigned n = (uint8_t)(a->b[15] - first.b[15]);
    return memcmp(a->b, first.b, 15) == 0 && n <= NET_MEMBERS ? n : 0;
}

struct net_link layout_link(unsigned member)
{
    struct net_link l = {
        .guest4 = layout_address(member),
        .router4 = address_of(NET_GATEWAY),
        .dns4 = address_of(NET_DNS),
        .host4 = address_of(NET_GATEWAY),
        .router6 = address_of(NET_GATEWAY6),
        .dns6 = address_of(NET_DNS6),
        .net4 = {.base = address_of(NET_SUBNET), .bits = 96 + NET_BITS},
        .net6 = {.base = net6, .bits = NET_BITS6},
    };
    layout_mac(member, l.mac);
    memcpy(l.first_mac, first_mac, sizeof(first_mac));
    return l;
}

void layout_texts(unsigned member, struct layout_texts *ret)
{
    const struct address v4 = layout_address(member), v6 = layout_address6(member);
    uint8_t m[6];
    layout_mac(member, m);
    snprintf(ret->mac, sizeof(ret->mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    address_format(&v4, ret->address);
    address_format(&v6, ret->address6);
}
