/*
 * Throughput of the channel to a running VM's agent: `bench-channel NAME out|in BYTES` prints nanoseconds from the
 * request to the last byte. "out" lets the guest send; "in" sends to it, until the guest has taken all and said so.
 */
#include "base/clock.h"
#include "machine/client.h"
#include "wire/frame.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int receive_until_end(struct client *c, uint64_t *ret_bytes, struct mvm_error *err)
{
    for (;;) {
        struct client_event e;
        int r = client_poll(c, NULL, 0, clock_deadline(120000), err);
        if (r < 0)
            return r;
        while (client_next(c, &e)) {
            if (e.kind == CLIENT_RESET)
                return mvm_error_set(err, -EPIPE, "the guest gave up: %s", (const char *)e.data);
            if (e.kind == CLIENT_CLOSED)
                return 0;
            if (e.channel == CHAN_OUT)
                *ret_bytes += e.len;
            client_event_done(c);
        }
    }
}

static int measure(const char *name, bool out, uint64_t bytes, uint64_t *ret_ns, struct mvm_error *err)
{
    static const uint8_t chunk[FRAME_MAX_PAYLOAD] = {1};
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_BUF struct buf m = BUF_INIT(64);
    const struct msg_flood flood = {.send = out ? bytes : 0};
    uint32_t stream;
    uint64_t received = 0;
    int r = home_open(&h, err);
    if (r == 0)
        r = client_connect(&h, name, &c, err);
    if (r == 0 && msg_flood_encode(&m, &flood) < 0)
        r = mvm_error_errno(err, -ENOMEM, "request");
    uint64_t start = clock_now();
    if (r == 0)
        r = client_open(c, &m, &stream, err);
    for (uint64_t left = out ? 0 : bytes; r == 0 && left;) {
        size_t n = (size_t)MIN_OF(left, (uint64_t)sizeof(chunk));
        r = client_send(c, stream, CHAN_OUT, chunk, n);
        left -= n;
    }
    if (r < 0)
        return r;
    client_close(c, stream);
    r = receive_until_end(c, &received, err);
    *ret_ns = clock_now() - start;
    if (r == 0 && received != flood.send)
        r = mvm_error_set(err, -EPROTO, "%llu bytes came", (unsigned long long)received);
    return r;
}

int main(int argc, char **argv)
{
    struct mvm_error err = MVM_ERROR_INIT;
    uint64_t ns = 0;
    if (argc != 4 || (strcmp(argv[2], "out") != 0 && strcmp(argv[2], "in") != 0)) {
        fputs("usage: bench-channel NAME out|in BYTES\n", stderr);
        return 2;
    }
    if (measure(argv[1], strcmp(argv[2], "out") == 0, strtoull(argv[3], NULL, 10), &ns, &err) < 0) {
        fprintf(stderr, "bench-channel: %s\n", err.msg);
        return 1;
    }
    printf("%llu\n", (unsigned long long)ns);
    return 0;
}
