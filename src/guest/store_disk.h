/* The disk of the builder's store, which the host keeps: checked, mounted and grown. */
#pragma once

#include "wire/msg.h"

/* What can be done before the host says which VM this is: with what disk, that is. */
void store_disk_prepare(void);

/* Mounts the disk that the kernel command line names (mvm.store). With m->store_check, or where it does not mount as it
 * is, the file system is checked first (e2fsck -p), and Nix's database behind it. Lets the file system fill its device.
 * ret->store and ret->problem say how it went. */
void store_disk_mount(const struct msg_configure *m, struct msg_configured *ret);
