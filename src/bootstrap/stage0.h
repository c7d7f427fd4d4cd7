/*
 * Stage 0: a dev image assembled on the host from the distribution's signed packages (mmdebstrap, extract variant,
 * chrootless: works as an ordinary user). MVM_HOME/dev/builds/<id>/ with vmlinux, initrd, rootfs.ext4, cmdline.txt and
 * provenance.json (package names, versions and digests), staged in dev/builds/.stage-*, promoted by rename; dev/current
 * is a symlink to it.
 *
 * It is a seed (seed.h): the builder image (cache/buildercache.h) is built inside it. The packages' archive is kept in
 * MVM_CACHE_DIR/stage0/ and reused while the recipe's package list and the distribution release are the same.
 */
#pragma once

#include "base/error.h"
#include "bootstrap/source.h"
#include "cache/home.h"
#include "host/progress.h"

/* Removes what a killed process left of one, unless another process assembles one now. */
void stage0_sweep(struct home *h);
/* Assembles one, makes it current and removes all builds but it and the one before. Errors: phase builder-bootstrap,
 * with a hint. */
int stage0_assemble(struct home *h, const struct source *source, struct progress *p,
                    struct mvm_error *err) MVM_MUST_CHECK;
