/* Virtio over MMIO, both the legacy layout that QEMU has by default and that of version 1.0 (Virtio 1.1, 4.2). */
#include "testguest.h"

#include <string.h>

enum {
    MAGIC = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SEL = 0x024,
    GUEST_PAGE_SIZE = 0x028,
    QUEUE_SEL = 0x030,
    QUEUE_NUM = 0x038,
    QUEUE_ALIGN = 0x03c,
    QUEUE_PFN = 0x040,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESC = 0x080,
    QUEUE_DRIVER = 0x090,
    QUEUE_DEVICE = 0x0a0,
    CONFIG = 0x100,
};

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };

#define PAGE         4096
#define DEVICE_WRITE 2 /* a descriptor's flag */

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static volatile uint32_t *reg(uint8_t *mmio, unsigned offset)
{
    return (volatile uint32_t *)(void *)(mmio + offset);
}

static uint64_t number(const char **at)
{
    bool hex = strncmp(*at, "0x", 2) == 0;
    uint64_t v = 0;
    for (*at += hex ? 2 : 0;; (*at)++) {
        char c = **at;
        unsigned digit = c >= '0' && c <= '9'          ? (unsigned)(c - '0')
                         : hex && c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                                       : 16;
        if (digit == 16)
            return v;
        v = v * (hex ? 16 : 10) + digit;
    }
}

static bool is_legacy(uint8_t *mmio)
{
    return *reg(mmio, VERSION) == 1;
}

static void reset(uint8_t *mmio, uint32_t features)
{
    *reg(mmio, STATUS) = 0;
    *reg(mmio, STATUS) = ACKNOWLEDGE | DRIVER;
    *reg(mmio, DRIVER_FEATURES_SEL) = 0;
    *reg(mmio, DRIVER_FEATURES) = features;
    if (is_legacy(mmio)) {
        *reg(mmio, GUEST_PAGE_SIZE) = PAGE;
        return;
    }
    *reg(mmio, DRIVER_FEATURES_SEL) = 1;
    *reg(mmio, DRIVER_FEATURES) = 1; /* VIRTIO_F_VERSION_1 */
    *reg(mmio, STATUS) = ACKNOWLEDGE | DRIVER | FEATURES_OK;
}

/* Linux's virtio_mmio.device=SIZE@ADDRESS:IRQ. */
uint8_t *virtio_find(unsigned device, uint32_t features, unsigned *ret_irq)
{
    static const char parameter[] = "virtio_mmio.device=";
    for (const char *at = cmdline; (at = strstr(at, parameter));) {
        at += sizeof(parameter) - 1;
        while (*at && *at != '@')
            at++;
        at += *at == '@';
        uint8_t *mmio = (uint8_t *)(uintptr_t)number(&at); // NOLINT(performance-no-int-to-ptr)
        at += *at == ':';
        *ret_irq = (unsigned)number(&at);
        if (*reg(mmio, MAGIC) != 0x74726976 || *reg(mmio, DEVICE_ID) != device)
            continue;
        reset(mmio, features);
        return mmio;
    }
    return NULL;
}

uint32_t virtio_config(uint8_t *mmio, unsigned offset)
{
    return *reg(mmio, CONFIG + offset);
}

static void set_address(uint8_t *mmio, unsigned offset, const volatile void *p)
{
    *reg(mmio, offset) = (uint32_t)(uintptr_t)p;
    *reg(mmio, offset + 4) = (uint32_t)((uintptr_t)p >> 32);
}

/* Descriptors and what we give in one page, what comes back in the next. */
void virtio_queue(struct queue *q, uint8_t *mmio, unsigned index, size_t buffer_size)
{
    uint8_t *ring = pages(2 * PAGE);
    *q = (struct queue){.mmio = mmio, .index = index, .buffer_size = buffer_size, .ring = ring};
    q->buffers = pages(QUEUE_SIZE * buffer_size);
    q->avail = (uint16_t *)(void *)(ring + QUEUE_SIZE * sizeof(struct descriptor));
    q->used = (uint16_t *)(void *)(ring + PAGE);
    *reg(mmio, QUEUE_SEL) = index;
    *reg(mmio, QUEUE_NUM) = QUEUE_SIZE;
    if (is_legacy(mmio)) {
        *reg(mmio, QUEUE_ALIGN) = PAGE;
        *reg(mmio, QUEUE_PFN) = (uint32_t)((uintptr_t)ring / PAGE);
        return;
    }
    set_address(mmio, QUEUE_DESC, ring);
    set_address(mmio, QUEUE_DRIVER, q->avail);
    set_address(mmio, QUEUE_DEVICE, q->used);
    *reg(mmio, QUEUE_READY) = 1;
}

void virtio_begin(uint8_t *mmio)
{
    *reg(mmio, STATUS) |= DRIVER_OK;
}

void virtio_acknowledge(uint8_t *mmio)
{
    uint32_t status = *reg(mmio, INTERRUPT_STATUS);
    if (status)
        *reg(mmio, INTERRUPT_ACK) = status;
}

/* Descriptor i is always buffer i. */
void queue_give(struct queue *q, unsigned i, size_t n, bool in)
{
    volatile struct descriptor *d = (volatile struct descriptor *)(volatile void *)q->ring + i;
    d->addr = (uintptr_t)(q->buffers + i * q->buffer_size);
    d->len = (uint32_t)n;
    d->flags = in ? DEVICE_WRITE : 0;
    q->avail[2 + q->added % QUEUE_SIZE] = (uint16_t)i;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    q->avail[1] = ++q->added;
}

void queue_kick(struct queue *q)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    *reg(q->mmio, QUEUE_NOTIFY) = q->index;
}

bool queue_has(const struct queue *q)
{
    return q->used[1] != q->seen;
}

int queue_take(struct queue *q, size_t *ret_n)
{
    if (!queue_has(q))
        return -1;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const volatile uint32_t *element =
        (const volatile uint32_t *)(const volatile void *)(q->used + 2) + (size_t)2 * (q->seen % QUEUE_SIZE);
    q->seen++;
    *ret_n = element[1];
    return (int)element[0];
}
