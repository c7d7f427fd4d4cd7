/*
 * Virtio devices on the first bus of PCI (Virtio 1.1, 4.1; PCI Local Bus Specification 3.0, 6). A device's registers
 * are where firmware has put them; where there was no firmware, or it put them beyond what is mapped, they are put at 3
 * GiB, where device memory begins. The bus itself is in memory that ACPI names (PCI Firmware Specification 3.0, 4.1),
 * or else reached by ports.
 */
#include "testguest.h"

#include <string.h>

#define PORT_ADDRESS 0xcf8
#define PORT_DATA    0xcfc
#define ENABLE       (1u << 31)

/* Configuration space. */
enum {
    ID = 0x00,
    COMMAND = 0x04,
    BARS = 0x10,
    SUBSYSTEM = 0x2c,
    CAPABILITIES = 0x34,
};
#define USE_MEMORY 2u
#define USE_MASTER 4u
#define NO_INTX    0x400u

#define CAP_VENDOR 0x09
#define CAP_MSIX   0x11
#define MSIX_ON    (1u << 31)
#define MSI_HERE   0xfee00000u /* to the first processor: Intel SDM 3A, 11.11 */

#define VIRTIO_VENDOR 0x1af4
#define MODERN        0x1040 /* and the kind of device; older numbers have it in the subsystem */
enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_DEVICE = 4 };

#define DEVICE_MEMORY 0xc0000000u
#define MAPPED        (1ull << 32)

static uint8_t *ecam; /* NULL: by ports */
static uint32_t free_address = DEVICE_MEMORY;

static void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}

static uint32_t inl(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static uint8_t *at_address(uint64_t a)
{
    return (uint8_t *)(uintptr_t)a; // NOLINT(performance-no-int-to-ptr)
}

/* ---- The bus ---- */

static uint32_t get(unsigned slot, unsigned offset)
{
    if (ecam)
        return *(volatile uint32_t *)(void *)(ecam + (slot << 15 | offset));
    outl(PORT_ADDRESS, ENABLE | slot << 11 | offset);
    return inl(PORT_DATA);
}

static void set(unsigned slot, unsigned offset, uint32_t v)
{
    if (ecam) {
        *(volatile uint32_t *)(void *)(ecam + (slot << 15 | offset)) = v;
        return;
    }
    outl(PORT_ADDRESS, ENABLE | slot << 11 | offset);
    outl(PORT_DATA, v);
}

/* The rest of a capability's first word, and the bytes behind. */
static uint8_t get_byte(unsigned slot, unsigned offset)
{
    return (uint8_t)(get(slot, offset & ~3u) >> 8 * (offset & 3));
}

/* ---- ACPI (5.2: RSDP, RSDT, XSDT) ---- */

static uint64_t number(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

static const uint8_t *find_rsdp(void)
{
    if (acpi_rsdp)
        return at_address(acpi_rsdp);
    for (uint64_t a = 0xe0000; a < 0x100000; a += 16)
        if (memcmp(at_address(a), "RSD PTR ", 8) == 0)
            return at_address(a);
    return NULL;
}

/* The number that is behind a name in the DSDT of this FADT; there is no interpreter of AML here. */
static uint8_t *find_named(const uint8_t *fadt, const char *name)
{
    enum { DWORD = 0x0c, QWORD = 0x0e };
    const uint8_t *dsdt = at_address(number(fadt + 40, 4));
    for (const uint8_t *p = dsdt, *end = dsdt ? dsdt + number(dsdt + 4, 4) - 16 : dsdt; p < end; p++) {
        if (memcmp(p, name, 4) != 0)
            continue;
        for (p += 4; p < end && *p != DWORD && *p != QWORD; p++)
            ;
        return p < end ? at_address(number(p + 1, *p == DWORD ? 4 : 8)) : NULL;
    }
    return NULL;
}

/* The first segment's configuration space: in the table MCFG, or the bus's own _CBA. NULL: no table says. */
static uint8_t *find_ecam(void)
{
    const uint8_t *rsdp = find_rsdp();
    bool wide = rsdp && rsdp[15] >= 2 && number(rsdp + 24, 8);
    const uint8_t *list = rsdp ? at_address(wide ? number(rsdp + 24, 8) : number(rsdp + 16, 4)) : NULL;
    size_t width = wide ? 8 : 4;
    uint8_t *found = NULL;
    for (size_t at = 36; list && at + width <= number(list + 4, 4); at += width) {
        const uint8_t *table = at_address(number(list + at, width));
        if (memcmp(table, "MCFG", 4) == 0)
            return at_address(number(table + 44, 8));
        if (memcmp(table, "FACP", 4) == 0)
            found = find_named(table, "_CBA");
    }
    return found;
}

static bool find_bus(void)
{
    ecam = find_ecam();
    outl(PORT_ADDRESS, ENABLE);
    return ecam || inl(PORT_ADDRESS) == ENABLE;
}

/* ---- Devices ---- */

/* Where a memory BAR is, put below 4 GiB where it is not. */
static uint8_t *open_bar(unsigned slot, unsigned bar)
{
    unsigned offset = BARS + 4 * bar;
    uint32_t low = get(slot, offset);
    bool wide = (low & 6) == 4;
    uint64_t address = (low & ~15u) | (wide ? (uint64_t)get(slot, offset + 4) << 32 : 0);
    if (address && address < MAPPED)
        return at_address(address);
    set(slot, offset, ~0u);
    uint32_t size = ~(get(slot, offset) & ~15u) + 1;
    free_address = (free_address + size - 1) & ~(size - 1);
    address = free_address;
    free_address += size;
    set(slot, offset, (uint32_t)address);
    if (wide)
        set(slot, offset + 4, 0);
    return at_address(address);
}

/* The first message of a table goes to VECTOR_DEVICE. */
static void open_msix(unsigned slot, unsigned cap)
{
    uint32_t where = get(slot, cap + 4);
    volatile uint32_t *entry = (volatile uint32_t *)(void *)(open_bar(slot, where & 7) + (where & ~7u));
    entry[0] = MSI_HERE;
    entry[1] = 0;
    entry[2] = VECTOR_DEVICE;
    entry[3] = 0;
    set(slot, cap, get(slot, cap) | MSIX_ON);
}

static void take_capability(struct virtio *v, unsigned slot, unsigned cap)
{
    uint8_t type = get_byte(slot, cap + 3);
    if (type != CFG_COMMON && type != CFG_NOTIFY && type != CFG_DEVICE)
        return;
    uint8_t *p = open_bar(slot, get_byte(slot, cap + 4)) + get(slot, cap + 8);
    if (type == CFG_COMMON)
        v->common = p;
    else if (type == CFG_DEVICE)
        v->config = p;
    else
        v->notify = p;
    if (type == CFG_NOTIFY)
        v->notify_step = get(slot, cap + 16);
}

static bool is_virtio(unsigned slot, unsigned device)
{
    uint32_t id = get(slot, ID), number = id >> 16;
    return (id & 0xffff) == VIRTIO_VENDOR &&
           (number >= MODERN ? number == MODERN + device : get(slot, SUBSYSTEM) >> 16 == device);
}

bool pci_find_virtio(struct virtio *v, unsigned device)
{
    *v = (struct virtio){0};
    unsigned slot = find_bus() ? 0 : 32;
    while (slot < 32 && !is_virtio(slot, device))
        slot++;
    if (slot == 32)
        return false;
    /* Its memory appears when all of it has a place. */
    unsigned msix = 0;
    for (unsigned cap = get_byte(slot, CAPABILITIES); cap; cap = get_byte(slot, cap + 1)) {
        if (get_byte(slot, cap) == CAP_VENDOR)
            take_capability(v, slot, cap);
        else if (get_byte(slot, cap) == CAP_MSIX)
            msix = cap;
    }
    if (msix)
        (void)open_bar(slot, get(slot, msix + 4) & 7);
    set(slot, COMMAND, (get(slot, COMMAND) & 0xffff) | USE_MEMORY | USE_MASTER | NO_INTX);
    if (msix)
        open_msix(slot, msix);
    return v->common && v->notify && v->config && msix;
}
