/* cpio "newc" archives for initrds (kernel: Documentation/driver-api/early-userspace/buffer-format.rst). */
#pragma once

#include "image/fstree.h"

/* Writes the tree as an uncompressed newc archive. */
int cpio_write(int fd, const struct fstree *tree, struct mvm_error *err) MVM_MUST_CHECK;
