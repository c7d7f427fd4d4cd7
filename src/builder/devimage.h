/* Assembling the dev image's files from extracted packages and this installation. */
#pragma once

#include "base/error.h"
#include "builder/install.h"
#include "image/nar.h"

/* The flakes that the image's registry provides, by the hash that lock files have of them. */
struct devimage_flakes {
    char library[NAR_HASH_SIZE]; /* "mvm" */
    char tools[NAR_HASH_SIZE];   /* "mvm-tools" */
};

#define DEVIMAGE_LIBRARY "/usr/share/mvm/nix"
#define DEVIMAGE_TOOLS   "/usr/share/mvm/tools"

/* Writes vmlinux, initrd, rootfs.ext4 and cmdline.txt into the folder (open and by its absolute path). */
int devimage_write(int dirfd, const char *dir_path, const char *packages, const struct install *i,
                   struct devimage_flakes *ret, struct mvm_error *err) MVM_MUST_CHECK;
