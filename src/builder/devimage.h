/* Assembling the dev image's files from extracted packages and this installation. */
#pragma once

#include "base/error.h"
#include "builder/install.h"

/* Writes vmlinux, initrd, rootfs.ext4 and cmdline.txt into the folder (open and by its absolute path). */
int devimage_write(int dirfd, const char *dir_path, const char *packages, const struct install *i,
                   struct mvm_error *err) MVM_MUST_CHECK;
