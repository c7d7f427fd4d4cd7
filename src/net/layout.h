/* A VM's network as its guest sees it: the same for every VM, which is alone in its own. */
#pragma once

#define NET_MAC      "52:54:00:12:34:56" /* of its card: the VMM is told it */
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
