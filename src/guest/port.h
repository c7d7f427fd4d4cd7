/* The way by which the host reaches the agent: a port of a virtio console, or a connection over a virtio socket. */
#pragma once

#include <stdbool.h>

/* Opens the virtio-serial port of that name (/dev/vportNpM), or where there is none connects to the host: a nonblocking
 * descriptor, or -errno. */
int port_open(const char *name);
/* A connection that has ended is made anew under its number, which nothing watches any more; false where it is a port,
 * or nobody listens. */
bool port_connect_again(int port);
