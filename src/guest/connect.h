/*
 * Connections into the guest (MSG_CONNECT): streams of the channel that are connections to a port here, or flows of
 * datagrams. On the agent's loop itself: a connection is a descriptor and what its window allows, and a process for
 * each would cost more than what it carries.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mux;
/* For a new connection to the host: the multiplexer to serve, and the loop's epoll set. */
void connect_init(struct mux *mux, int epoll);
/* A request for one; -errno says why it is refused. */
int connect_open(uint32_t stream, const void *p, size_t n);
/* The multiplexer's events (wire/mux.h): false, or -ENOENT, where the stream is not one of these. */
int connect_record(uint32_t stream, const void *p, size_t n);
bool connect_closed(uint32_t stream);
bool connect_reset(uint32_t stream);
bool connect_writable(uint32_t stream);
/* An event of the epoll set with that pointer: false where it is not one of these. */
bool connect_event(void *ptr, uint32_t events);
/* Room was made; the connection to the host is lost. */
void connect_watch(void);
void connect_end_all(void);
bool connect_busy(void);
