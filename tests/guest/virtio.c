/* Virtio over MMIO, both the legacy layout that QEMU has by default and that of version 1.0 (Virtio 1.1, 4.2), and on a
 * PCI bus (4.1; pci.c finds it there). */
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

/* On a PCI bus: struct virtio_pci_common_cfg. */
enum {
    PCI_FEATURES_SEL = 0x08,
    PCI_FEATURES = 0x0c,
    PCI_MSIX_CONFIG = 0x10,
    PCI_STATUS = 0x14,
    PCI_QUEUE_SEL = 0x16,
    PCI_QUEUE_SIZE = 0x18,
    PCI_QUEUE_MSIX = 0x1a,
    PCI_QUEUE_ENABLE = 0x1c,
    PCI_QUEUE_NOTIFY_OFF = 0x1e,
    PCI_QUEUE_DESC = 0x20,
    PCI_QUEUE_DRIVER = 0x28,
    PCI_QUEUE_DEVICE = 0x30,
};

#define NO_VECTOR 0xffff

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

static volatile uint16_t *reg16(uint8_t *p, unsigned offset)
{
    return (volatile uint16_t *)(void *)(p + offset);
}

static void set_status(const struct virtio *v, uint8_t status)
{
    if (v->mmio)
        *reg(v->mmio, STATUS) = status;
    else
        *(volatile uint8_t *)(v->common + PCI_STATUS) = status;
}

static bool is_legacy(const struct virtio *v)
{
    return v->mmio && *reg(v->mmio, VERSION) == 1;
}

static void accept(const struct virtio *v, unsigned word, uint32_t features)
{
    uint8_t *p = v->mmio ? v->mmio : v->common;
    *reg(p, v->mmio ? DRIVER_FEATURES_SEL : PCI_FEATURES_SEL) = word;
    *reg(p, v->mmio ? DRIVER_FEATURES : PCI_FEATURES) = features;
}

static void reset(const struct virtio *v, uint32_t features)
{
    set_status(v, 0);
    set_status(v, ACKNOWLEDGE); /* one bit after the other: some VMMs insist */
    set_status(v, ACKNOWLEDGE | DRIVER);
    accept(v, 0, features);
    if (is_legacy(v)) {
        *reg(v->mmio, GUEST_PAGE_SIZE) = PAGE;
        return;
    }
    accept(v, 1, 1); /* VIRTIO_F_VERSION_1 */
    set_status(v, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if (!v->mmio)
        *reg16(v->common, PCI_MSIX_CONFIG) = NO_VECTOR;
}

/* Linux's virtio_mmio.device=SIZE@ADDRESS:IRQ. */
static bool find_mmio(struct virtio *v, unsigned device)
{
    static const char parameter[] = "virtio_mmio.device=";
    for (const char *at = cmdline; (at = strstr(at, parameter));) {
        at += sizeof(parameter) - 1;
        while (*at && *at != '@')
            at++;
        at += *at == '@';
        uint8_t *mmio = (uint8_t *)(uintptr_t)number(&at); // NOLINT(performance-no-int-to-ptr)
        at += *at == ':';
        unsigned irq = (unsigned)number(&at);
        if (*reg(mmio, MAGIC) != 0x74726976 || *reg(mmio, DEVICE_ID) != device)
            continue;
        *v = (struct virtio){.mmio = mmio};
        machine_listen(irq);
        return true;
    }
    return false;
}

bool virtio_find(struct virtio *v, unsigned device, uint32_t features)
{
    if (!find_mmio(v, device) && !pci_find_virtio(v, device))
        return false;
    reset(v, features);
    return true;
}

uint32_t virtio_config(const struct virtio *v, unsigned offset)
{
    return v->mmio ? *reg(v->mmio, CONFIG + offset) : *reg(v->config, offset);
}

static void set_address(uint8_t *registers, unsigned offset, const volatile void *p)
{
    *reg(registers, offset) = (uint32_t)(uintptr_t)p;
    *reg(registers, offset + 4) = (uint32_t)((uintptr_t)p >> 32);
}

static void open_pci_queue(struct queue *q, const struct virtio *v)
{
    *reg16(v->common, PCI_QUEUE_SEL) = (uint16_t)q->index;
    *reg16(v->common, PCI_QUEUE_SIZE) = QUEUE_SIZE;
    *reg16(v->common, PCI_QUEUE_MSIX) = 0;
    set_address(v->common, PCI_QUEUE_DESC, q->ring);
    set_address(v->common, PCI_QUEUE_DRIVER, q->avail);
    set_address(v->common, PCI_QUEUE_DEVICE, q->used);
    q->doorbell = reg16(v->notify, *reg16(v->common, PCI_QUEUE_NOTIFY_OFF) * v->notify_step);
    *reg16(v->common, PCI_QUEUE_ENABLE) = 1;
}

static void open_mmio_queue(const struct queue *q, uint8_t *mmio, bool legacy)
{
    *reg(mmio, QUEUE_SEL) = q->index;
    *reg(mmio, QUEUE_NUM) = QUEUE_SIZE;
    if (legacy) {
        *reg(mmio, QUEUE_ALIGN) = PAGE;
        *reg(mmio, QUEUE_PFN) = (uint32_t)((uintptr_t)q->ring / PAGE);
        return;
    }
    set_address(mmio, QUEUE_DESC, q->ring);
    set_address(mmio, QUEUE_DRIVER, q->avail);
    set_address(mmio, QUEUE_DEVICE, q->used);
    *reg(mmio, QUEUE_READY) = 1;
}

/* Descriptors and what we give in one page, what comes back in the next. */
void virtio_queue(struct queue *q, const struct virtio *v, unsigned index, size_t buffer_size)
{
    uint8_t *ring = pages(2 * PAGE);
    *q = (struct queue){.device = v, .index = index, .buffer_size = buffer_size, .ring = ring};
    q->buffers = pages(QUEUE_SIZE * buffer_size);
    q->avail = (uint16_t *)(void *)(ring + QUEUE_SIZE * sizeof(struct descriptor));
    q->used = (uint16_t *)(void *)(ring + PAGE);
    if (v->mmio)
        open_mmio_queue(q, v->mmio, is_legacy(v));
    else
        open_pci_queue(q, v);
}

void virtio_begin(const struct virtio *v)
{
    set_status(v, ACKNOWLEDGE | DRIVER | DRIVER_OK | (is_legacy(v) ? 0 : FEATURES_OK));
}

/* A message on a PCI bus comes anew for each event. */
void virtio_acknowledge(const struct virtio *v)
{
    uint32_t status = v->mmio ? *reg(v->mmio, INTERRUPT_STATUS) : 0;
    if (status)
        *reg(v->mmio, INTERRUPT_ACK) = status;
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
    if (q->doorbell)
        *q->doorbell = (uint16_t)q->index;
    else
        *reg(q->device->mmio, QUEUE_NOTIFY) = q->index;
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
