/*
 * One --allow HOST[:PORT][/tcp|udp]. HOST is
 *   - a name (example.org) or all names below one that has at least two labels (*.example.org, which is not
 * example.org);
 *   - an address or a range of them (192.0.2.1, 10.0.0.0/8, fd00::/8; [fd00::1]:443 with a port);
 *   - `host` or host.mvm.internal: the host's loopback, TCP only, and only with a port.
 * Without a port all ports, without a protocol both (and echo requests).
 */
#pragma once

#include "base/error.h"
#include "net/address.h"

#define RULE_MAX_NAME 254 /* with the NUL */
#define RULE_TEXT     (RULE_MAX_NAME + 32)
#define HOST_NAME     "host.mvm.internal"

/* As in an IP header (IANA's protocol numbers). */
enum net_protocol { NET_ICMP = 1, NET_TCP = 6, NET_UDP = 17 };

enum rule_kind { RULE_NAME, RULE_BELOW, RULE_RANGE, RULE_HOST };

struct rule {
    enum rule_kind kind;
    uint16_t port;            /* 0: all */
    uint8_t protocol;         /* 0: all; TCP for RULE_HOST */
    enum address_class class; /* RULE_RANGE: of the addresses that it reaches */
    struct prefix range;      /* RULE_RANGE */
    char name[RULE_MAX_NAME]; /* RULE_NAME; RULE_BELOW: what follows "*."; lower case, no dot at the end */
};

/* -EINVAL with what is wrong and, as hint, what would be right. */
int rule_parse(const char *text, struct rule *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* As rule_parse takes it. Returns text. */
const char *rule_format(const struct rule *r, char text[RULE_TEXT]);

/* Whether a name (lower case, no dot at the end) is one that the rule names. */
bool rule_names(const struct rule *r, const char *name);
bool rule_takes(const struct rule *r, uint8_t protocol, uint16_t port);
