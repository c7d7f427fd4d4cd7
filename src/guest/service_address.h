/*
 * Where a service of this guest may be reached: it may listen on the loopback only, or on the card's address only, so
 * that each is tried in turn.
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

enum place { LOOPBACK, LOOPBACK6, CARD, PLACES };

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* A port's address at that place: its length, 0 where there is no such place. */
socklen_t service_address(enum place place, uint16_t port, union address *ret);
