/*
 * Addresses as policy sees them: one form for both families. An IPv4 address is held as ::ffff:a.b.c.d, and every IPv6
 * address that only wraps an IPv4 one (mapped, compatible, translated, 64:ff9b::/96, 6to4, Teredo) becomes that on its
 * way in, so that no rule has to know of them. What an address is for is its class, by IANA's registries of
 * special-purpose addresses (RFC 6890 and later).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_TEXT 46 /* with the NUL */

struct address {
    uint8_t b[16];
};

/* The addresses whose first `bits` (of 128; an IPv4 /8 has 104) are those of base. */
struct prefix {
    struct address base;
    uint8_t bits;
};

enum address_class {
    ADDRESS_PUBLIC,
    ADDRESS_PRIVATE,    /* 10/8, 172.16/12, 192.168/16, fc00::/7, fec0::/10 */
    ADDRESS_SHARED,     /* 100.64/10 */
    ADDRESS_LINK_LOCAL, /* 169.254/16, fe80::/10 */
    ADDRESS_METADATA,   /* where clouds answer their machines, wherever that lies: 169.254.169.254, fd00:ec2::254,
                           168.63.129.16 */
    ADDRESS_LOOPBACK,   /* 127/8, ::1; the unspecified ones too, which Linux connects to the loopback */
    ADDRESS_MULTICAST,  /* with 255.255.255.255 */
    ADDRESS_RESERVED,   /* documentation, benchmarks, future use, other tunnels; all of IPv6 but 2000::/3 */
    ADDRESS_CLASSES,
};

struct address address_from4(const uint8_t ip[4]);
/* Unwraps. Of a Teredo address's two (server and client) the one that is less than public is taken. */
struct address address_from6(const uint8_t ip[16]);
/* What a kernel makes of a /64 and its card's MAC (EUI-64, RFC 4291 appendix A). */
struct address address_eui64(const struct address *base, const uint8_t mac[static 6]);
bool address_is4(const struct address *a);
/* The four bytes of an IPv4 address. */
const uint8_t *address_v4(const struct address *a);
bool address_equal(const struct address *a, const struct address *b);

/* Dotted or colon form, no zone, no brackets. 0 or -EINVAL. */
int address_parse(const char *text, struct address *ret);
/* Returns text. */
const char *address_format(const struct address *a, char text[ADDRESS_TEXT]);

enum address_class address_class(const struct address *a);
/* "a private address". */
const char *address_class_words(enum address_class c);

bool prefix_has(const struct prefix *p, const struct address *a);
/* Of the class of its addresses where they all have the same; ADDRESS_PUBLIC where they are of several: what is said
 * with a wide range reaches the public ones in it only. A range that lies in metadata's addresses is of their class. */
enum address_class prefix_class(const struct prefix *p);
