/* DNS among the VMs of a network: the names of its members, and what names their addresses have. */
#pragma once

#include "net/dns.h"
#include "net/peers.h"

#define VM_NAMES_TTL 5 /* s: a VM may have ended, and another have its number */

/* The answer to a query for that name (q's, in text), at most DNS_PLAIN_SIZE bytes: its length; 0 where the name is
 * none of theirs. */
size_t vm_names_answer(const struct peers *p, const struct dns_query *q, const char *name,
                       uint8_t out[static DNS_PLAIN_SIZE]);
