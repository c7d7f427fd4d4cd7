#include "vmm/qemu_args.h"
#include "host/os.h"
#include "vmm/accel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void qemu_args_done(struct args *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->v[i]);
}

static void add(struct args *a, const char *fmt, ...) MVM_PRINTF(2, 3);
static void add(struct args *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = NULL;
    if (a->n == MAX_ARGS || vasprintf(&s, fmt, ap) < 0)
        a->error = -ENOMEM;
    else
        a->v[a->n++] = s;
    va_end(ap);
}

/* QEMU's option syntax ends a value at a comma; a doubled comma stands for one. The caller frees. */
static char *escape_commas(const char *s)
{
    char *out = malloc(2 * strlen(s) + 1), *to = out;
    if (!out)
        return NULL;
    for (; *s; s++) {
        if (*s == ',')
            *to++ = ',';
        *to++ = *s;
    }
    *to = '\0';
    return out;
}

static bool is_virt(const char *arch)
{
    return strcmp(arch ? arch : os_arch(), "aarch64") == 0;
}

const struct program *qemu_program(const char *arch)
{
    static const struct program x86 = {.name = "qemu-system-x86_64", .hint = "install the package qemu-system-x86"};
    static const struct program arm = {.name = "qemu-system-aarch64", .hint = "install the package qemu-system-arm"};
    return is_virt(arch) ? &arm : &x86;
}

/* What the machine can give, that which costs a guest least first; -1: nothing. virt has virtio-mmio devices too, but
 * Linux finds them in the opposite order, and disks go by their order. */
static int choose_bus(bool virt, unsigned offers)
{
    if (virt)
        return offers & KERNEL_OFFER(KERNEL_PCI) ? QEMU_PCI : -1;
    static const enum kernel_offer order[] = {
        [QEMU_MMIO_CMDLINE] = KERNEL_MMIO_CMDLINE, [QEMU_MMIO_ACPI] = KERNEL_MMIO_ACPI, [QEMU_PCI] = KERNEL_PCI};
    for (size_t bus = 0; bus < ARRAY_SIZE(order); bus++)
        if (offers & KERNEL_OFFER(order[bus]))
            return (int)bus;
    return -1;
}

/* The agent is reached by a port of a virtio console: the host's vsock device needs rights that a user does not have.
 */
int qemu_takes_kernel(const char *arch, unsigned offers, struct mvm_error *err)
{
    bool virt = is_virt(arch);
    if (choose_bus(virt, offers) >= 0 && offers & KERNEL_OFFER(KERNEL_CONSOLE))
        return 0;
    return vmm_refuse_kernel(
        offers, virt ? "qemu wants console and pci" : "qemu wants console and one of mmio-cmdline, mmio-acpi, pci",
        err);
}

/* What devices are called on the machine's bus: virtio-blk-device, virtio-blk-pci. */
static const char *on_bus(const struct args *a)
{
    return a->bus == QEMU_PCI ? "pci" : "device";
}

static void add_disk(struct args *a, unsigned i, const struct vmm_disk *d)
{
    CLEAN_FREE char *path = escape_commas(d->path);
    if (!path) {
        a->error = -ENOMEM;
        return;
    }
    add(a, "-blockdev");
    add(a, "driver=raw,node-name=disk%u,read-only=%s,discard=%s,file.driver=file,file.filename=%s%s", i,
        d->read_only ? "on" : "off", d->discard ? "unmap" : "ignore", path, d->read_only ? ",file.locking=off" : "");
    /* A full host disk is an error in the guest; QEMU would otherwise stop the VM and wait for somebody. */
    add(a, "-device");
    add(a, "virtio-blk-%s,drive=disk%u,serial=disk%u,werror=report,rerror=report", on_bus(a), i, i);
}

static void add_machine(struct args *a, const struct vmm_config *c)
{
    bool kvm = accel_parse(c->accel.name) == ACCEL_KVM;
    add(a, "%s", qemu_program(c->arch)->name);
    add(a, "-name");
    add(a, "mvm-%s", c->name);
    add(a, "-M");
    /* The first interrupt controller of virt has eight processors. */
    if (a->virt)
        add(a, "virt,memory-backend=ram,gic-version=%s", kvm ? "host" : c->vcpus > 8 ? "3" : "2");
    else
        add(a, "microvm,acpi=%s,memory-backend=ram%s", a->bus == QEMU_MMIO_CMDLINE ? "off" : "on",
            a->bus == QEMU_PCI ? ",pcie=on" : "");
    add(a, "-nodefaults");
    add(a, "-no-user-config");
    add(a, "-display");
    add(a, "none");
    add(a, "-no-reboot");
    add(a, "-sandbox");
    add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add(a, "-accel");
    add(a, "%s", kvm ? "kvm" : c->count ? "tcg,thread=single" : c->vcpus > 1 ? "tcg,thread=multi" : "tcg");
    /* One instruction is one nanosecond of the guest; where it has nothing to do, its clock jumps to its next event. */
    if (c->count) {
        add(a, "-icount");
        add(a, "shift=0,sleep=off");
    }
    /* TCG runs `rep movsb` byte by byte; without these flags kernel and C library copy by words, three times as fast.
     * Signing pointers protects nothing that is emulated, and costs a hash for each function. */
    add(a, "-cpu");
    add(a, "%s", kvm ? "host" : a->virt ? "max,pauth=off" : "max,erms=off,fsrm=off");
    add(a, "-smp");
    add(a, "%u", c->vcpus);
    add(a, "-m");
    add(a, "%llu", (unsigned long long)c->memory_mib);
    /* Both kinds have one name in a saved state: a guest may leave one and continue in the other. */
    add(a, "-object");
    if (c->memory_fd < 0)
        add(a, "memory-backend-ram,id=ram,size=%lluM", (unsigned long long)c->memory_mib);
    else
        add(a, "memory-backend-file,id=ram,size=%lluM,mem-path=/proc/self/fd/%d,share=%s",
            (unsigned long long)c->memory_mib, c->memory_fd, c->memory_shared ? "on" : "off");
    if (c->incoming) {
        add(a, "-incoming");
        add(a, "defer");
        add(a, "-S"); /* paused afterwards, also where the guest ran when it was saved */
    }
}

/*
 * What the machine itself needs on the kernel's command line.
 * tsc_early_khz: TCG's TSC ticks at the host's rate; told so, the kernel does not calibrate against the PIT, which on a
 * busy host fails and then hangs in a delay loop. reboot=t with -no-reboot: a reboot ends QEMU on every kernel.
 * lapic_timer_khz (nix/kernel): QEMU's and KVM's local APIC timers count nanoseconds; told so, the slim kernel does not
 * measure that for 0.2 s.
 */
static void add_x86_cmdline(struct args *a, const struct vmm_config *c)
{
    char tsc[128] = "";
    if (c->count)
        snprintf(tsc, sizeof(tsc), " tsc_early_khz=1000000 tsc=reliable lpj=4000000 mvm.count%s",
                 c->initcalls ? " initcall_debug log_buf_len=4M" : "");
    else if (c->accel.tsc_khz)
        snprintf(tsc, sizeof(tsc), " tsc_early_khz=%llu tsc=reliable", (unsigned long long)c->accel.tsc_khz);
    add(a, "console=ttyS0 quiet panic=-1 reboot=t no_timer_check nokaslr mitigations=off random.trust_cpu=on%s%s %s",
        tsc, a->bus == QEMU_MMIO_CMDLINE ? " lapic_timer_khz=1000000" : "", c->cmdline);
}

/* Its timer says its rate, and a reboot is the firmware's (PSCI), as the end is. */
static void add_virt_cmdline(struct args *a, const struct vmm_config *c)
{
    add(a, "console=ttyAMA0 quiet panic=-1 nokaslr mitigations=off random.trust_cpu=on%s%s %s",
        c->count ? " mvm.count" : "", c->initcalls ? " initcall_debug log_buf_len=4M" : "", c->cmdline);
}

static void add_kernel(struct args *a, const struct vmm_config *c)
{
    add(a, "-kernel");
    add(a, "%s", c->kernel);
    if (c->initrd) {
        add(a, "-initrd");
        add(a, "%s", c->initrd);
    }
    add(a, "-append");
    if (a->virt)
        add_virt_cmdline(a, c);
    else
        add_x86_cmdline(a, c);
}

static void add_channels(struct args *a, const struct vmm_config *c)
{
    add(a, "-chardev");
    add(a, "socket,id=console,fd=%d", c->console_fd);
    add(a, "-serial");
    add(a, "chardev:console");
    add(a, "-chardev");
    add(a, "socket,id=control,fd=%d", c->control_fd);
    add(a, "-mon");
    add(a, "chardev=control,mode=control");
    add(a, "-device");
    add(a, "virtio-serial-%s,max_ports=2", on_bus(a));
    add(a, "-chardev");
    add(a, "socket,id=channel,fd=%d", c->channel_fd);
    add(a, "-device");
    add(a, "virtserialport,chardev=channel,name=mvm.agent");
}

int qemu_args(struct args *a, const struct vmm_config *c, struct mvm_error *err)
{
    int r = qemu_takes_kernel(c->arch, c->kernel_offers, err);
    if (r < 0)
        return r;
    a->virt = is_virt(c->arch);
    a->bus = (enum qemu_bus)choose_bus(a->virt, c->kernel_offers);
    add_machine(a, c);
    if (!c->incoming)
        add_kernel(a, c);
    for (unsigned i = 0; i < c->n_disks; i++)
        add_disk(a, i, &c->disks[i]);
    if (c->net == VMM_NET_FRAMES) {
        add(a, "-netdev");
        add(a, "dgram,id=net0,local.type=fd,local.str=%d", c->frames_fd);
        add(a, "-device");
        add(a, "virtio-net-%s,netdev=net0,mac=%s%s", on_bus(a), c->mac,
            a->virt ? ",romfile=" : ""); /* what boots from a network has no firmware here to run it */
    }
    add_channels(a, c);
    return a->error ? mvm_error_errno(err, a->error, "qemu's arguments") : 0;
}
