#include "net/address.h"
#include "base/macros.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

struct block {
    uint8_t b[16];
    uint8_t bits;
    enum address_class class;
};

#define V4(a, b, c, d, bits, class)                                                                                    \
    {                                                                                                                  \
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}, 96 + (bits), ADDRESS_##class                           \
    }
#define V6(bits, class, ...)                                                                                           \
    {                                                                                                                  \
        {__VA_ARGS__}, bits, ADDRESS_##class                                                                           \
    }

/* The first that has an address says its class. */
static const struct block blocks[] = {
    V4(169, 254, 169, 254, 32, METADATA),                             /* most clouds */
    V4(169, 254, 170, 2, 32, METADATA),                               /* Amazon's containers */
    V4(168, 63, 129, 16, 32, METADATA),                               /* Azure: it looks public */
    V4(100, 100, 100, 200, 32, METADATA),                             /* Alibaba */
    V4(192, 0, 0, 192, 32, METADATA),                                 /* Oracle */
    V6(128, METADATA, 0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54), /* Amazon */
    V6(128, METADATA, 0xfd, 0x20, 0, 0xce, [14] = 0x02, [15] = 0x54), /* Google */
    V4(0, 0, 0, 0, 8, LOOPBACK),
    V4(10, 0, 0, 0, 8, PRIVATE),
    V4(100, 64, 0, 0, 10, SHARED),
    V4(127, 0, 0, 0, 8, LOOPBACK),
    V4(169, 254, 0, 0, 16, LINK_LOCAL),
    V4(172, 16, 0, 0, 12, PRIVATE),
    V4(192, 0, 0, 0, 24, RESERVED),   /* IETF protocol assignments */
    V4(192, 0, 2, 0, 24, RESERVED),   /* documentation */
    V4(192, 88, 99, 0, 24, RESERVED), /* 6to4 relays */
    V4(192, 168, 0, 0, 16, PRIVATE),
    V4(198, 18, 0, 0, 15, RESERVED), /* benchmarks */
    V4(198, 51, 100, 0, 24, RESERVED),
    V4(203, 0, 113, 0, 24, RESERVED),
    V4(224, 0, 0, 0, 4, MULTICAST),
    V4(255, 255, 255, 255, 32, MULTICAST),
    V4(240, 0, 0, 0, 4, RESERVED),
    V4(0, 0, 0, 0, 0, PUBLIC),
    V6(127, LOOPBACK, 0), /* :: and ::1 */
    V6(7, PRIVATE, 0xfc),
    V6(10, LINK_LOCAL, 0xfe, 0x80),
    V6(10, PRIVATE, 0xfe, 0xc0),
    V6(8, MULTICAST, 0xff),
    V6(23, RESERVED, 0x20, 0x01),             /* IETF protocol assignments */
    V6(32, RESERVED, 0x20, 0x01, 0x0d, 0xb8), /* documentation */
    V6(20, RESERVED, 0x3f, 0xff),             /* documentation, RFC 9637 */
    V6(3, PUBLIC, 0x20),
    V6(0, RESERVED, 0),
};

static const char *const words[] = {
    [ADDRESS_PUBLIC] = "a public address",         [ADDRESS_PRIVATE] = "a private address",
    [ADDRESS_SHARED] = "a provider's own address", [ADDRESS_LINK_LOCAL] = "a link-local address",
    [ADDRESS_METADATA] = "a cloud's metadata",     [ADDRESS_LOOPBACK] = "a loopback address",
    [ADDRESS_MULTICAST] = "a multicast address",   [ADDRESS_RESERVED] = "a reserved address",
};
_Static_assert(ARRAY_SIZE(words) == ADDRESS_CLASSES, "a class without words");

static bool begins(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, bytes) != 0)
        return false;
    return !rest || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0;
}

static const struct block *find_block(const struct address *a)
{
    const struct block *b = blocks;
    while (!begins(a->b, b->b, b->bits))
        b++; /* the last one has all */
    return b;
}

struct address address_from4(const uint8_t ip[4])
{
    struct address a;
    memcpy(a.b, mapped, sizeof(mapped));
    memcpy(a.b + 12, ip, 4);
    return a;
}

/* The server's in the clear, the client's inverted (RFC 4380 section 4). */
static struct address from_teredo(const uint8_t ip[16])
{
    uint8_t client[4];
    for (int i = 0; i < 4; i++)
        client[i] = (uint8_t)~ip[12 + i];
    struct address server = address_from4(ip + 4);
    return address_class(&server) != ADDRESS_PUBLIC ? server : address_from4(client);
}

struct address address_from6(const uint8_t ip[16])
{
    static const struct {
        uint8_t b[12];
        unsigned at; /* where the IPv4 address is */
        unsigned bits;
    } wrapped[] = {
        {{[8] = 0xff, [9] = 0xff}, 12, 96}, /* translated, RFC 2765 */
        {{0, 0x64, 0xff, 0x9b}, 12, 96},    /* RFC 6052 */
        {{0x20, 0x02}, 2, 16},              /* 6to4, RFC 3056 */
        {{0}, 12, 96},                      /* compatible, RFC 4291 section 2.5.5.1 */
    };
    static const uint8_t teredo[4] = {0x20, 0x01};
    struct address a;
    memcpy(a.b, ip, sizeof(a.b));
    if (find_block(&a)->class == ADDRESS_LOOPBACK)
        return a; /* :: and ::1 wrap nothing */
    if (begins(ip, teredo, 32))
        return from_teredo(ip);
    for (size_t i = 0; i < ARRAY_SIZE(wrapped); i++)
        if (begins(ip, wrapped[i].b, wrapped[i].bits))
            return address_from4(ip + wrapped[i].at);
    return a;
}

struct address address_eui64(const struct address *base, const uint8_t mac[static 6])
{
    struct address a = *base;
    const uint8_t half[8] = {mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
    memcpy(a.b + 8, half, sizeof(half));
    return a;
}

bool address_is4(const struct address *a)
{
    return memcmp(a->b, mapped, sizeof(mapped)) == 0;
}

const uint8_t *address_v4(const struct address *a)
{
    return a->b + 12;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

int address_parse(const char *text, struct address *ret)
{
    uint8_t ip[16];
    if (inet_pton(AF_INET, text, ip) == 1)
        *ret = address_from4(ip);
    else if (inet_pton(AF_INET6, text, ip) == 1)
        *ret = address_from6(ip);
    else
        return -EINVAL;
    return 0;
}

const char *address_format(const struct address *a, char text[ADDRESS_TEXT])
{
    if (address_is4(a))
        return inet_ntop(AF_INET, address_v4(a), text, ADDRESS_TEXT);
    return inet_ntop(AF_INET6, a->b, text, ADDRESS_TEXT);
}

enum address_class address_class(const struct address *a)
{
    return find_block(a)->class;
}

const char *address_class_words(enum address_class c)
{
    return words[c];
}

bool prefix_has(const struct prefix *p, const struct address *a)
{
    return begins(a->b, p->base.b, p->bits);
}

enum address_class prefix_class(const struct prefix *p)
{
    const struct block *b = find_block(&p->base);
    return p->bits < b->bits ? ADDRESS_PUBLIC : b->class;
}
