/* The command line of a QEMU that runs one VM: qemu-system(1). */
#pragma once

#include "vmm/program.h"

#define MAX_ARGS 96

/* How a machine's virtio devices are found. */
enum qemu_bus { QEMU_MMIO_CMDLINE, QEMU_MMIO_ACPI, QEMU_PCI };

struct args {
    char *v[MAX_ARGS + 1];
    size_t n;
    int error;
    enum qemu_bus bus;
    bool virt; /* the machine `virt` of aarch64; else x86_64's `microvm` */
};

#define CLEAN_ARGS CLEANUP(qemu_args_done)

/* The QEMU of guests with those processors (vmm_config.arch). */
const struct program *qemu_program(const char *arch);
/* 0, or -ENOTSUP for a kernel that offers nothing that this VMM has. */
int qemu_takes_kernel(const char *arch, unsigned offers, struct mvm_error *err);
/* The program's name first. What the kernel, the disks and the network of a VM that continues are, its state says: the
 * devices are the same, the kernel is left out. */
int qemu_args(struct args *a, const struct vmm_config *c, struct mvm_error *err) MVM_MUST_CHECK;
void qemu_args_done(struct args *a);
