/* The TCP sockets of this guest that listen, from /proc/net/tcp and /proc/net/tcp6 (kernel:
 * Documentation/networking/proc_net_tcp.rst). */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

struct listener {
    char address[33]; /* as the kernel writes it: 8 digits, or 32 of IPv6 */
    unsigned port;
    unsigned queue; /* connections that wait to be accepted */
};

/* The next one of a text from *at on, which is moved behind it; false at the end. */
bool listeners_next(const char **at, struct listener *ret);

/* How many connections wait for what a connection to that address would reach: -ENOENT where nothing listens there. Of
 * several that share the port, the one for which the fewest wait. */
int listeners_queue(const char *tcp, const char *tcp6, const struct sockaddr *to);
/* The same of this guest, now. */
int listeners_queue_now(const struct sockaddr *to);
