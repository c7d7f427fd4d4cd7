/* From the kernel's first process to a usable root, and the end. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Role of /init in an initrd: loads modules, mounts the root, switches to it and executes mvm.init. Returns only on
 * failure. */
int boot_initrd(struct mvm_error *err);
/* With mvm.layer on the kernel command line, where the kernel has mounted the root itself: puts a layer in memory above
 * it and switches to that. Makes the early mounts in any case. */
int boot_layer(struct mvm_error *err);
/* The mounts that the agent's channel does not need. */
void boot_late_mounts(void);
/* Puts the 8254 into one-shot mode: its periodic tick wakes the VMM of an idle guest 36 times a second. */
void boot_stop_pit(void);
/* True where the processor is emulated in software. */
bool boot_emulated(void);
/* Programs are loaded at the same addresses each time. */
void boot_fix_addresses(void);
/* The value of a parameter of the kernel command line ("" where it is set without one); false where it is absent. */
bool boot_param(const char *cmdline, const char *name, char *out, size_t size);
/* Reads /proc/cmdline. */
const char *boot_cmdline(void);
/* Ends everything, syncs, unmounts, powers off. Does not return. */
void boot_power_off(void) __attribute__((noreturn));

/* Kernel log and console, for what happens before the channel is there. */
void boot_log(const char *fmt, ...) MVM_PRINTF(1, 2);
/* Makes an empty file in place of what is there, to be written later by its descriptor, or -errno. */
int boot_prepare_file(const char *folder, const char *name, mode_t mode);
