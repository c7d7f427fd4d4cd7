/* Whether an address is this host's, asked anew each time: addresses come and go. */
#pragma once

#include "net/address.h"

struct own_address {
    bool binds_any; /* sockets can be bound to addresses that are not this host's */
};

void own_address_init(struct own_address *o);
bool own_address_is(const struct own_address *o, const struct address *a);
