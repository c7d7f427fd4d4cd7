/* The network card. */
#pragma once

#include "wire/msg.h"

#include <stdbool.h>
#include <stddef.h>

/* What needs no address: loopback and the first other network card come up, files and sockets are opened. A guest
 * restored from a snapshot has little left to do then. */
void net_prepare(void);
/* The first network card that is not the loopback gets the host's MAC and addresses, or with `dhcp` an IPv4 address
 * from a DHCP server (which a child of this process then renews). again: it has been called before, by this guest or
 * the one that it is a copy of; a lease is kept where the MAC stays. Where m->unlinked
 * the card has no address. Afterwards m says what is in use. A problem in
 * words, "" for none. */
void net_configure(struct msg_configure *m, bool dhcp, bool again, char *problem, size_t size);

/* This process, and what it starts, gets a network of its own that has a loopback and nothing else. 0 or -errno. */
int net_isolate(void);
