#include "testguest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SERIAL 0x3f8

#define KEYBOARD       0x64
#define KEYBOARD_RESET 0xfe
#define RESET_MS       2000 /* until which it has had its effect */

/* Intel SDM 3A, chapter 11; 82093AA data sheet. */
#define LAPIC         0xfee00000u
#define LAPIC_SVR     0x0f0
#define LAPIC_TIMER   0x320
#define LAPIC_INITIAL 0x380
#define LAPIC_DIVIDE  0x3e0
#define PERIODIC      (1u << 17)
#define IOAPIC        0xfec00000u

#define VECTOR_TIMER    0x21
#define VECTOR_SPURIOUS 0xff

char cmdline[4096];
volatile uint64_t ticks;
uint64_t acpi_rsdp;

static struct {
    uint64_t begin, khz;          /* of the time stamp counter */
    uint64_t wall_ns, wall_at_ms; /* what time it was when */
} time_base;

extern char _end[], exceptions[];
void on_device(void), on_timer(void), on_spurious(void);
void guest_exception(const uint64_t *frame) __attribute__((noreturn));

/* ---- Ports and registers ---- */

static void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static volatile uint32_t *reg(uint32_t base, uint32_t offset)
{
    return (volatile uint32_t *)(uintptr_t)(base + offset); // NOLINT(performance-no-int-to-ptr)
}

static uint64_t rdtsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* ---- The console ---- */

void say(const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    for (const char *p = line; *p; p++) {
        for (int i = 0; i < 100000 && !(inb(SERIAL + 5) & 0x20); i++)
            ;
        if (*p == '\n')
            outb(SERIAL, '\r');
        outb(SERIAL, (uint8_t)*p);
    }
}

/* ---- What the VMM has given ---- */

/* Xen, public/arch-x86/hvm/start_info.h. */
struct pvh_info {
    uint32_t magic, version, flags, n_modules;
    uint64_t modules, cmdline, rsdp, memmap;
    uint32_t n_memmap, reserved;
};
struct pvh_memory {
    uint64_t addr, size;
    uint32_t type, reserved;
};

/* Linux, Documentation/arch/x86/zero-page.rst. */
#define ZERO_RSDP      0x070
#define ZERO_CMDLINE   0x228
#define ZERO_N_E820    0x1e8
#define ZERO_E820      0x2d0
#define ZERO_E820_SIZE 20

static const void *at_address(uint64_t a)
{
    return (const void *)(uintptr_t)a; // NOLINT(performance-no-int-to-ptr)
}

/* The memory that this program is in, behind it. Device memory begins at 3 GiB. */
static void use_memory(uint64_t from, uint64_t size)
{
    uint64_t end = MIN_OF(from + size, 3ull << 30);
    if (from <= (uintptr_t)_end && end > (uintptr_t)_end)
        heap_begin((uintptr_t)_end, end);
}

static void read_pvh(const struct pvh_info *info)
{
    const struct pvh_memory *m = at_address(info->memmap);
    acpi_rsdp = info->rsdp;
    snprintf(cmdline, sizeof(cmdline), "%s", (const char *)at_address(info->cmdline));
    for (uint32_t i = 0; i < info->n_memmap; i++)
        if (m[i].type == 1)
            use_memory(m[i].addr, m[i].size);
}

static void read_linux(const uint8_t *zero)
{
    uint32_t at;
    memcpy(&acpi_rsdp, zero + ZERO_RSDP, sizeof(acpi_rsdp));
    memcpy(&at, zero + ZERO_CMDLINE, sizeof(at));
    snprintf(cmdline, sizeof(cmdline), "%s", (const char *)at_address(at));
    for (const uint8_t *e = zero + ZERO_E820; e < zero + ZERO_E820 + zero[ZERO_N_E820] * ZERO_E820_SIZE;
         e += ZERO_E820_SIZE) {
        uint64_t range[2];
        memcpy(range, e, sizeof(range));
        if (e[16] == 1)
            use_memory(range[0], range[1]);
    }
}

uint64_t cmdline_number(const char *name)
{
    const char *at = strstr(cmdline, name);
    uint64_t v = 0;
    for (at = at ? at + strlen(name) : ""; *at >= '0' && *at <= '9'; at++)
        v = 10 * v + (uint64_t)(*at - '0');
    return v;
}

/* ---- Interrupts ---- */

static struct {
    uint16_t low, selector;
    uint8_t ist, type;
    uint16_t middle;
    uint32_t high, reserved;
} __attribute__((packed)) gates[256];

static void set_gate(unsigned vector, uintptr_t entry)
{
    gates[vector].low = (uint16_t)entry;
    gates[vector].middle = (uint16_t)(entry >> 16);
    gates[vector].high = (uint32_t)(entry >> 32);
    gates[vector].selector = 8;
    gates[vector].type = 0x8e;
}

static void load_gates(size_t size)
{
    const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {(uint16_t)(size - 1), (uintptr_t)gates};
    __asm__ volatile("lidt %0" ::"m"(pointer));
}

void machine_begin(const void *pvh, const void *zero_page)
{
    time_base.begin = rdtsc();
    if (pvh)
        read_pvh(pvh);
    else
        read_linux(zero_page);
    uint64_t khz = cmdline_number("tsc_early_khz=");
    time_base.khz = khz ? khz : 1000000;
    for (unsigned i = 0; i < 32; i++)
        set_gate(i, (uintptr_t)exceptions + (size_t)16 * i);
    set_gate(VECTOR_DEVICE, (uintptr_t)on_device);
    set_gate(VECTOR_TIMER, (uintptr_t)on_timer);
    set_gate(VECTOR_SPURIOUS, (uintptr_t)on_spurious);
    load_gates(sizeof(gates));
    outb(0x21, 0xff); /* the old interrupt controllers are silent */
    outb(0xa1, 0xff);
    *reg(LAPIC, LAPIC_SVR) = 0x100 | VECTOR_SPURIOUS;
    *reg(LAPIC, LAPIC_DIVIDE) = 0xb; /* by one: QEMU's and KVM's count nanoseconds */
    *reg(LAPIC, LAPIC_TIMER) = PERIODIC | VECTOR_TIMER;
}

void machine_listen(unsigned irq)
{
    *reg(IOAPIC, 0) = 0x11 + 2 * irq;
    *reg(IOAPIC, 0x10) = 0; /* to this processor */
    *reg(IOAPIC, 0) = 0x10 + 2 * irq;
    *reg(IOAPIC, 0x10) = VECTOR_DEVICE; /* by edge */
}

void machine_timer(bool on)
{
    static bool is_on;
    if (on != is_on)
        *reg(LAPIC, LAPIC_INITIAL) = on ? TICK_MS * 1000000 : 0;
    is_on = on;
}

void machine_idle(bool (*ready)(void))
{
    __asm__ volatile("cli" ::: "memory");
    if (ready())
        __asm__ volatile("sti" ::: "memory");
    else
        __asm__ volatile("sti\n\thlt" ::: "memory");
}

/* ---- Time ---- */

uint64_t uptime_ms(void)
{
    return (rdtsc() - time_base.begin) / time_base.khz;
}

uint64_t wall_clock_ns(void)
{
    return time_base.wall_ns + (uptime_ms() - time_base.wall_at_ms) * 1000000;
}

void set_wall_clock(uint64_t ns)
{
    time_base.wall_ns = ns;
    time_base.wall_at_ms = uptime_ms();
}

/* ---- The end ---- */

void machine_reset(void)
{
    if (strstr(cmdline, "reboot=k")) {
        outb(KEYBOARD, KEYBOARD_RESET);
        for (uint64_t until = uptime_ms() + RESET_MS; uptime_ms() < until;)
            __asm__ volatile("pause");
    }
    load_gates(1);
    for (;;)
        __asm__ volatile("ud2"); /* whose handler is not there, nor is that of the fault in finding it */
}

void machine_halt(void)
{
    for (;;)
        __asm__ volatile("cli\n\thlt");
}

void guest_exception(const uint64_t *frame)
{
    uint64_t address;
    __asm__ volatile("movq %%cr2, %0" : "=r"(address));
    say("Kernel panic - not syncing: exception %llu, %llx %llx %llx, at address %llx\n", (unsigned long long)frame[0],
        (unsigned long long)frame[1], (unsigned long long)frame[2], (unsigned long long)frame[3],
        (unsigned long long)address);
    machine_reset();
}
