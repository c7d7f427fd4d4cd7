#include "guest/service_address.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdbool.h>
#include <string.h>

/* The address of a card that is up: false where there is none. */
static bool card_address(struct sockaddr_in *ret)
{
    struct ifaddrs *all = NULL;
    bool found = false;
    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
        found = a->ifa_addr && a->ifa_addr->sa_family == AF_INET && (a->ifa_flags & IFF_UP) &&
                !(a->ifa_flags & IFF_LOOPBACK);
        if (found)
            memcpy(ret, a->ifa_addr, sizeof(*ret));
    }
    freeifaddrs(all);
    return found;
}

socklen_t service_address(enum place place, uint16_t port, union address *ret)
{
    *ret = (union address){0};
    if (place == LOOPBACK6) {
        ret->v6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        return sizeof(ret->v6);
    }
    ret->v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (place == CARD && !card_address(&ret->v4))
        return 0;
    ret->v4.sin_port = htons(port);
    return sizeof(ret->v4);
}
