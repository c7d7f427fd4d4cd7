/* Assembling the dev image's files on the host: from extracted packages and this checkout, by the same descriptions
 * (nix/images/builder-vm) that the builder image is made by inside a builder. */
#pragma once

#include "base/error.h"
#include "bootstrap/source.h"

/* Writes vmlinux, initrd, rootfs.ext4 and cmdline.txt into the folder (open and by its absolute path). packages: the
 * folder of packages_ensure(). */
int devimage_write(int dirfd, const char *dir_path, const char *packages, const struct source *source,
                   struct mvm_error *err) MVM_MUST_CHECK;
