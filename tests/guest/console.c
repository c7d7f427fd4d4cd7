/* The device that has the port to the host: a virtio console with several ports (Virtio 1.1, 5.3). */
#include "testguest.h"

#include <string.h>

#define DEVICE_CONSOLE 3
#define F_MULTIPORT    (1u << 1)
#define MAX_PORTS      4
#define IN_SIZE        4096
#define OUT_SIZE       32768

enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, PORT_OPEN = 6, PORT_NAME = 7 };

struct control {
    uint32_t port;
    uint16_t event, value;
};

static struct {
    struct virtio device;
    const char *name;
    unsigned port; /* of that name; 0: not known yet */
    struct queue control_in, control_out, in[MAX_PORTS], out[MAX_PORTS];
    unsigned filling; /* buffers on their way to the host */
    bool free[QUEUE_SIZE];
} console;

static void give_all(struct queue *q)
{
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        queue_give(q, i, q->buffer_size, true);
    queue_kick(q);
}

/* One at a time: it is gone when this returns. */
static void tell(uint32_t port, uint16_t event)
{
    const struct control c = {port, event, 1};
    size_t n;
    memcpy(console.control_out.buffers, &c, sizeof(c));
    queue_give(&console.control_out, 0, sizeof(c), false);
    queue_kick(&console.control_out);
    while (queue_take(&console.control_out, &n) < 0)
        __asm__ volatile("pause");
}

static void on_control(const uint8_t *p, size_t n)
{
    struct control c;
    memcpy(&c, p, sizeof(c));
    if (c.event == PORT_ADD)
        tell(c.port, PORT_READY);
    if (c.event != PORT_NAME || n - sizeof(c) < strlen(console.name) ||
        memcmp(p + sizeof(c), console.name, strlen(console.name)) != 0 || c.port >= MAX_PORTS)
        return;
    console.port = c.port;
    tell(c.port, PORT_OPEN);
}

static bool take_control(void)
{
    size_t n;
    int i = queue_take(&console.control_in, &n);
    if (i < 0)
        return false;
    on_control(console.control_in.buffers + (size_t)i * IN_SIZE, n);
    queue_give(&console.control_in, (unsigned)i, IN_SIZE, true);
    queue_kick(&console.control_in);
    return true;
}

bool console_begin(const char *name)
{
    const struct virtio *v = &console.device;
    console.name = name;
    if (!virtio_find(&console.device, DEVICE_CONSOLE, F_MULTIPORT))
        return false;
    unsigned ports = MIN_OF(virtio_config(v, 4), (uint32_t)MAX_PORTS);
    virtio_queue(&console.control_in, v, 2, IN_SIZE);
    virtio_queue(&console.control_out, v, 3, IN_SIZE);
    for (unsigned p = 1; p < ports; p++) {
        virtio_queue(&console.in[p], v, 2 + 2 * p, IN_SIZE);
        virtio_queue(&console.out[p], v, 3 + 2 * p, OUT_SIZE);
    }
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        console.free[i] = true;
    virtio_begin(v);
    give_all(&console.control_in);
    for (unsigned p = 1; p < ports; p++)
        give_all(&console.in[p]);
    tell(0, DEVICE_READY);
    while (!console.port)
        if (!take_control())
            machine_idle(console_has_news);
    return true;
}

bool console_input(void (*take)(const void *p, size_t n))
{
    struct queue *q = &console.in[console.port];
    bool any = take_control();
    size_t n;
    for (int i; (i = queue_take(q, &n)) >= 0; any = true) {
        take(q->buffers + (size_t)i * IN_SIZE, n);
        queue_give(q, (unsigned)i, IN_SIZE, true);
        queue_kick(q);
    }
    return any;
}

static void collect(void)
{
    size_t n;
    for (int i; (i = queue_take(&console.out[console.port], &n)) >= 0;) {
        console.free[i] = true;
        console.filling--;
    }
}

size_t console_output(const void *p, size_t n)
{
    struct queue *q = &console.out[console.port];
    collect();
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        if (!console.free[i])
            continue;
        n = MIN_OF(n, (size_t)OUT_SIZE);
        memcpy(q->buffers + (size_t)i * OUT_SIZE, p, n);
        console.free[i] = false;
        console.filling++;
        queue_give(q, i, n, false);
        queue_kick(q);
        return n;
    }
    return 0;
}

bool console_is_empty(void)
{
    collect();
    return console.filling == 0;
}

bool console_has_news(void)
{
    virtio_acknowledge(&console.device);
    return queue_has(&console.control_in) ||
           (console.port && (queue_has(&console.in[console.port]) || queue_has(&console.out[console.port])));
}
