/* What a kernel offers a VMM: the ways by which it finds virtio devices, and those that lead to its agent. What a
 * kernel offers is found out where it is made, stands in image.json, and a backend chooses its devices by it. */
#pragma once

#include <stdbool.h>

enum kernel_offer {
    KERNEL_MMIO_CMDLINE, /* "mmio-cmdline": virtio-mmio devices that its command line names */
    KERNEL_MMIO_ACPI,    /* "mmio-acpi": the same, which ACPI's tables name */
    KERNEL_PCI,          /* "pci": virtio devices on a PCI bus */
    KERNEL_VSOCK,        /* "vsock": virtio sockets */
    KERNEL_CONSOLE,      /* "console": ports of a virtio console */
    KERNEL_OFFERS
};

/* A set of them. */
#define KERNEL_OFFER(offer) (1u << (offer))

const char *kernel_offer_name(enum kernel_offer offer);
/* -1 where the name is none of them. */
int kernel_offer_parse(const char *name);

/* The set that a kernel's configuration says (kernel: Documentation/kbuild/kconfig.rst, "CONFIG_X=y" or "=m", a line
 * each). What is a module counts where it is loaded when devices are looked for. */
unsigned kernel_offers_of_config(const char *config, bool (*has_module)(void *data, const char *name), void *data);
