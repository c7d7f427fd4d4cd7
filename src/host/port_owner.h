/* Which process of this host has a port, as far as this user may know (proc(5): /proc/net/tcp, /proc/PID/fd). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Its pid, and its name; 0 where that is not known. TCP: the one that listens. */
pid_t port_owner(uint16_t port, bool udp, char *ret_name, size_t size);
