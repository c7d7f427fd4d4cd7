/* The port by which the host reaches the agent. */
#pragma once

/* Opens the virtio-serial port of that name (/dev/vportNpM): its descriptor, or -errno. */
int port_open(const char *name);
