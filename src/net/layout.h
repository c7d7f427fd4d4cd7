/* A VM's network as its guest sees it: the same for every VM, which is alone in its own (member 0), or is one of the
 * members of a named network (1 to NET_MEMBERS), each of which has a MAC and addresses by its number. */
#pragma once

#include "net/packet.h"

#define NET_MEMBERS  32
#define NET_MAC      "52:54:00:12:34:56" /* of its card: the VMM is told it; a member's agent sets its own */
#define NET_SUBNET   "10.0.2.0"
#define NET_BITS     24
#define NET_GUEST    "10.0.2.15"
#define NET_GATEWAY  "10.0.2.2" /* with a port that was opened: this host's loopback */
#define NET_DNS      "10.0.2.3"
#define NET_SUBNET6  "fd6d:766d::" /* RFC 4193; it makes its address of its card's */
#define NET_BITS6    64
#define NET_GATEWAY6 "fd6d:766d::2"
#define NET_DNS6     "fd6d:766d::3"
#define NET_MTU      65520u /* the most that libslirp takes */

void layout_mac(unsigned member, uint8_t ret[static 6]);
struct address layout_address(unsigned member);
struct address layout_address6(unsigned member);
/* The member that has the address, 0: none. */
unsigned layout_member(const struct address *a);
/* Its wire. */
struct net_link layout_link(unsigned member);

struct layout_texts {
    char mac[18], address[ADDRESS_TEXT], address6[ADDRESS_TEXT];
};
void layout_texts(unsigned member, struct layout_texts *ret);
