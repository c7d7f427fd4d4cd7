#include "guest/streams.h"
#include "guest/connect.h"
#include "guest/relay.h"
#include "wire/msg.h"

#include <errno.h>

void streams_init(struct mux *mux, int epoll, const struct guest_conf *conf, bool builder)
{
    relay_init(mux, epoll, conf, builder);
    connect_init(mux, epoll);
}

int streams_open(uint32_t stream, const void *p, size_t n)
{
    struct msg_reader r;
    bool connects = msg_open(&r, p, n) == 0 && r.type == MSG_CONNECT;
    return connects ? connect_open(stream, p, n) : relay_open(stream, p, n);
}

int streams_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    int r = connect_record(stream, p, n);
    return r == -ENOENT ? relay_record(data, stream, channel, p, n) : r;
}

void streams_closed(void *data, uint32_t stream)
{
    if (!connect_closed(stream))
        relay_closed(data, stream);
}

void streams_reset(void *data, uint32_t stream, const char *reason)
{
    if (!connect_reset(stream))
        relay_reset(data, stream, reason);
}

void streams_writable(void *data, uint32_t stream)
{
    if (!connect_writable(stream))
        relay_writable(data, stream);
}

void streams_event(void *ptr, uint32_t events)
{
    if (!connect_event(ptr, events))
        relay_event(ptr, events);
}

void streams_watch(void)
{
    relay_watch();
    connect_watch();
}

void streams_end_all(void)
{
    relay_end_all();
    connect_end_all();
}

bool streams_busy(void)
{
    return relay_busy() || connect_busy();
}
