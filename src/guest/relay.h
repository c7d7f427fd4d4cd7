/* The agent's side of the workers. */
#pragma once

#include "guest/conf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mux;
/* For a new connection: the multiplexer to serve, and the loop's epoll set. */
void relay_init(struct mux *mux, int epoll, const struct guest_conf *conf, bool builder);
/* The multiplexer's events (wire/mux.h), once the guest is configured. */
int relay_open(uint32_t stream, const void *p, size_t n);
int relay_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n);
void relay_closed(void *data, uint32_t stream);
void relay_reset(void *data, uint32_t stream, const char *reason);
void relay_writable(void *data, uint32_t stream);
/* An event of the epoll set with that pointer; a child that ended; room was made; the connection is lost. */
void relay_event(void *ptr, uint32_t events);
void relay_reaped(pid_t pid, int status);
void relay_watch(void);
void relay_end_all(void);
/* True where a stream is served or its end is awaited. */
bool relay_busy(void);
