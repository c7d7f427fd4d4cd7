/* What serves the channel's streams: connections (connect.h), and processes for all other requests (relay.h). */
#pragma once

#include "guest/conf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mux;
void streams_init(struct mux *mux, int epoll, const struct guest_conf *conf, bool builder);
/* The multiplexer's events (wire/mux.h), once the guest is configured. */
int streams_open(uint32_t stream, const void *p, size_t n);
int streams_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n);
void streams_closed(void *data, uint32_t stream);
void streams_reset(void *data, uint32_t stream, const char *reason);
void streams_writable(void *data, uint32_t stream);
/* An event of the epoll set with that pointer; room was made; the connection is lost. */
void streams_event(void *ptr, uint32_t events);
void streams_watch(void);
void streams_end_all(void);
/* True where a stream is served or its end is awaited. */
bool streams_busy(void);
