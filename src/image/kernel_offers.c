#include "image/kernel_offers.h"
#include "base/macros.h"
#include "base/name_table.h"

#include <string.h>

static const char *const names[KERNEL_OFFERS] = {
    [KERNEL_MMIO_CMDLINE] = "mmio-cmdline",
    [KERNEL_MMIO_ACPI] = "mmio-acpi",
    [KERNEL_PCI] = "pci",
    [KERNEL_VSOCK] = "vsock",
    [KERNEL_CONSOLE] = "console",
};

/* A driver, which may be a module, and what else has to be compiled in. */
static const struct {
    const char *driver, *module, *with;
} wanted[KERNEL_OFFERS] = {
    [KERNEL_MMIO_CMDLINE] = {"CONFIG_VIRTIO_MMIO", "virtio_mmio", "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES"},
    [KERNEL_MMIO_ACPI] = {"CONFIG_VIRTIO_MMIO", "virtio_mmio", "CONFIG_ACPI"},
    [KERNEL_PCI] = {"CONFIG_VIRTIO_PCI", "virtio_pci", "CONFIG_PCI"},
    [KERNEL_VSOCK] = {"CONFIG_VIRTIO_VSOCKETS", "vmw_vsock_virtio_transport", NULL},
    [KERNEL_CONSOLE] = {"CONFIG_VIRTIO_CONSOLE", "virtio_console", NULL},
};

const char *kernel_offer_name(enum kernel_offer offer)
{
    return names[offer];
}

int kernel_offer_parse(const char *name)
{
    size_t o = name_find(names, KERNEL_OFFERS, name);
    return o < KERNEL_OFFERS ? (int)o : -1;
}

/* 'y', 'm', or 0 where the configuration does not have the option. */
static char value_of(const char *config, const char *option)
{
    size_t n = strlen(option);
    for (const char *line = config; *line;) {
        size_t len = strcspn(line, "\n");
        if (len == n + 2 && strncmp(line, option, n) == 0 && line[n] == '=')
            return line[n + 1];
        line += len + (line[len] == '\n');
    }
    return 0;
}

unsigned kernel_offers_of_config(const char *config, bool (*has_module)(void *data, const char *name), void *data)
{
    unsigned offers = 0;
    for (int o = 0; o < KERNEL_OFFERS; o++) {
        char driver = value_of(config, wanted[o].driver);
        bool there = driver == 'y' || (driver == 'm' && has_module(data, wanted[o].module));
        if (there && (!wanted[o].with || value_of(config, wanted[o].with) == 'y'))
            offers |= KERNEL_OFFER(o);
    }
    return offers;
}
