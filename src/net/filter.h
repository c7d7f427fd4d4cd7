/* What of a resolver's answer reaches the guest: the chain from the question's name to what was asked, without
 * addresses that policy would not let it reach. Those that remain are learned. */
#pragma once

#include "net/dns.h"
#include "net/policy.h"

struct filter_result {
    size_t len;         /* of the answer */
    unsigned addresses; /* that it has */
    bool filtered;      /* it had others, `refused` among them */
    struct address refused;
};

/* name: q's in text. r and head: as dns_read_head left them. out: the answer in at most cap bytes (DNS_PLAIN_SIZE and
 * more). 0 or -EBADMSG, for an answer that is broken. */
int filter_answer(struct policy *p, const struct dns_query *q, const char *name, struct dns_reader *r,
                  const struct dns_head *head, uint8_t *out, size_t cap, uint64_t now, struct filter_result *ret);
