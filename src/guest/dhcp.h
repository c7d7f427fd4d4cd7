/*
 * A DHCP client (RFC 2131, 2132) for one card: enough to obtain a lease and to keep it. It speaks UDP through a socket
 * that is bound to the card and asks servers to answer by broadcast, so no raw packets are needed.
 */
#pragma once

#include "base/macros.h"

#include <netinet/in.h>
#include <stdint.h>

struct dhcp_lease {
    struct in_addr address, server;
    struct in_addr router, dns; /* 0: none */
    unsigned char prefix;
    uint32_t seconds; /* how long it holds; UINT32_MAX: for ever */
};

/* What a server's answer says. -EBADMSG where it is none for this card and transaction. type: DHCPOFFER and so on. */
int dhcp_parse(const uint8_t *p, size_t n, const uint8_t mac[6], uint32_t transaction, uint8_t *ret_type,
               struct dhcp_lease *ret) MVM_MUST_CHECK;
/* Obtains a lease; with `again`, the one held before is asked for. -ETIMEDOUT where nobody answers by the deadline
 * (clock.h), -EACCES where the server refuses. */
int dhcp_request(const char *card, const uint8_t mac[6], const struct dhcp_lease *again, uint64_t deadline,
                 struct dhcp_lease *ret) MVM_MUST_CHECK;
