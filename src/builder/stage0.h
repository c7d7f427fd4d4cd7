/*
 * Stage 0: the dev image, a builder assembled on the host from the distribution's signed packages (mmdebstrap, extract
 * variant, chrootless: works as an ordinary user). MVM_HOME/dev/builds/<id>/ with vmlinux, initrd, rootfs.ext4,
 * cmdline.txt, provenance.json (package names and versions, no host names), staged in dev/builds/.stage-*, promoted by
 * rename; dev/current is a symlink to it.
 *
 * What it contains beyond packages comes from this installation: mvm-init, mvm-mkrootfs, the nix library. `id` is a
 * digest of those inputs and of the recipe, so that a newer mvmctl makes a new image; the packages' archive is kept in
 * MVM_CACHE_DIR/stage0/ and reused while the recipe's package list and the distribution release are the same.
 */
#pragma once

#include "base/error.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "builder/devimage.h"
#include "cache/home.h"

struct stage0_image {
    int dirfd;
    char *path;               /* absolute, owned */
    char id[SHA256_HEX_SIZE]; /* covers what went in; part of every build's fingerprint */
    struct devimage_flakes flakes;
};

#define STAGE0_IMAGE_INIT                                                                                              \
    {                                                                                                                  \
        .dirfd = -1                                                                                                    \
    }
#define CLEAN_STAGE0_IMAGE CLEANUP(stage0_image_done)

/* The dev image for this installation: the current one if its id is right and its files are whole, else assembled now.
 * Errors: phase builder-bootstrap, hint says what to install or `mvmctl doctor`. */
int stage0_ensure(struct stage0_image *img, struct home *h, struct progress *p, struct mvm_error *err) MVM_MUST_CHECK;

/* The id that stage0_ensure would want, from this installation's files, cheap (stat index). For fingerprints: judging a
 * cache hit must not assemble anything. */
int stage0_wanted_id(struct home *h, char id[static SHA256_HEX_SIZE], struct mvm_error *err) MVM_MUST_CHECK;
void stage0_image_done(struct stage0_image *img);
