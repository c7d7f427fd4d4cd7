/* The agent's connection to the host over virtio sockets (Virtio 1.1, 5.10), where there is no port of a console. */
#include "testguest.h"

#include <string.h>

#define DEVICE_VSOCK 19
#define HOST         2
#define HOST_PORT    1024 /* where mvmctl listens: src/vmm/socket_vmm.h */
#define IN_SIZE      4096
#define OUT_SIZE     32768
#define EVENT_SIZE   64
#define CREDIT       65536 /* what may be on its way to us */

enum { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };

struct header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static struct {
    struct virtio device;
    struct queue in, out, events;
    uint64_t cid;
    uint32_t port; /* another for each connection */
    bool connected, was_reset;
    uint32_t sent, peer_alloc, peer_taken; /* bytes of this connection */
    uint32_t taken, told;
    unsigned filling;
    bool free[QUEUE_SIZE];
} sock;

static void collect(void)
{
    size_t n;
    for (int i; (i = queue_take(&sock.out, &n)) >= 0;) {
        sock.free[i] = true;
        sock.filling--;
    }
}

/* False where no buffer is free. */
static bool send(uint16_t op, const void *p, size_t n)
{
    collect();
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        if (!sock.free[i])
            continue;
        const struct header h = {.src_cid = sock.cid,
                                 .dst_cid = HOST,
                                 .src_port = sock.port,
                                 .dst_port = HOST_PORT,
                                 .len = (uint32_t)n,
                                 .type = 1,
                                 .op = op,
                                 .buf_alloc = CREDIT,
                                 .fwd_cnt = sock.taken};
        uint8_t *to = sock.out.buffers + (size_t)i * OUT_SIZE;
        memcpy(to, &h, sizeof(h));
        if (n)
            memcpy(to + sizeof(h), p, n);
        sock.told = sock.taken;
        sock.free[i] = false;
        sock.filling++;
        queue_give(&sock.out, i, sizeof(h) + n, false);
        queue_kick(&sock.out);
        return true;
    }
    return false;
}

static void connect_host(void)
{
    sock.port++;
    sock.connected = false;
    sock.sent = sock.peer_alloc = sock.peer_taken = sock.taken = sock.told = 0;
    while (!send(OP_REQUEST, NULL, 0))
        __asm__ volatile("pause");
}

bool vsock_begin(void)
{
    const struct virtio *v = &sock.device;
    if (!virtio_find(&sock.device, DEVICE_VSOCK, 0))
        return false;
    sock.cid = virtio_config(v, 0);
    sock.port = 1024;
    virtio_queue(&sock.in, v, 0, IN_SIZE);
    virtio_queue(&sock.out, v, 1, OUT_SIZE);
    virtio_queue(&sock.events, v, 2, EVENT_SIZE);
    virtio_begin(v);
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        sock.free[i] = true;
        queue_give(&sock.in, i, IN_SIZE, true);
        queue_give(&sock.events, i, EVENT_SIZE, true);
    }
    queue_kick(&sock.in);
    queue_kick(&sock.events);
    connect_host();
    return true;
}

/* What is of an earlier connection is nothing. */
static void on_packet(const uint8_t *p, void (*take)(const void *p, size_t n))
{
    struct header h;
    memcpy(&h, p, sizeof(h));
    if (h.dst_port != sock.port)
        return;
    sock.peer_alloc = h.buf_alloc;
    sock.peer_taken = h.fwd_cnt;
    if (h.op == OP_RESPONSE)
        sock.connected = true;
    if (h.op == OP_CREDIT_REQUEST)
        (void)send(OP_CREDIT_UPDATE, NULL, 0);
    if (h.op == OP_RW && h.len <= IN_SIZE - sizeof(h)) {
        sock.taken += h.len;
        take(p + sizeof(h), h.len);
    }
    if (h.op != OP_RST && h.op != OP_SHUTDOWN)
        return;
    if (!sock.connected) {
        say("Kernel panic - not syncing: nobody listens on the host\n");
        machine_reset();
    }
    sock.was_reset = true;
}

/* The one event there is: every connection is gone, because this is another machine now. */
static bool take_events(void)
{
    bool any = false;
    size_t n;
    for (int i; (i = queue_take(&sock.events, &n)) >= 0; any = true) {
        sock.was_reset = true;
        queue_give(&sock.events, (unsigned)i, EVENT_SIZE, true);
        queue_kick(&sock.events);
    }
    return any;
}

bool vsock_input(void (*take)(const void *p, size_t n))
{
    bool any = take_events();
    size_t n;
    for (int i; (i = queue_take(&sock.in, &n)) >= 0; any = true) {
        on_packet(sock.in.buffers + (size_t)i * IN_SIZE, take);
        queue_give(&sock.in, (unsigned)i, IN_SIZE, true);
        queue_kick(&sock.in);
    }
    if (sock.taken - sock.told > CREDIT / 2)
        (void)send(OP_CREDIT_UPDATE, NULL, 0);
    return any;
}

bool vsock_was_reset(void)
{
    if (!sock.was_reset)
        return false;
    sock.was_reset = false;
    sock.cid = virtio_config(&sock.device, 0);
    connect_host();
    return true;
}

size_t vsock_output(const void *p, size_t n)
{
    size_t room = sock.peer_alloc - (sock.sent - sock.peer_taken);
    n = MIN_OF(MIN_OF(n, room), OUT_SIZE - sizeof(struct header));
    if (!sock.connected || n == 0 || !send(OP_RW, p, n))
        return 0;
    sock.sent += (uint32_t)n;
    return n;
}

bool vsock_is_empty(void)
{
    collect();
    return sock.filling == 0;
}

bool vsock_has_news(void)
{
    virtio_acknowledge(&sock.device);
    return queue_has(&sock.in) || queue_has(&sock.out) || queue_has(&sock.events);
}
