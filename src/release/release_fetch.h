/*
 * Published images (release.h) from where config.toml says. Everything that is fetched goes through one verification:
 * the signature over the manifest's bytes, then kind, arch, and that the version is not older than one that was used
 * before (MVM_HOME/dev/releases.json remembers the highest for each kind, arch and key), then size and digest of every
 * file. What fails is refused whole. Half a file lies in MVM_CACHE_DIR/downloads/<its digest>.part and is gone on from;
 * once it is whole and its digest is wrong, it is removed.
 */
#pragma once

#include "cache/config.h"
#include "release/release.h"

/* Fetches and verifies all of a set and keeps nothing of it. The public keys are those of cfg; *ret_key is one of them.
 * -ESTALE: an older version than was used before. */
int release_verify_url(struct home *h, const struct config *cfg, const char *url, struct progress *p,
                       struct release *ret, const struct minisign_key **ret_key, struct mvm_error *err) MVM_MUST_CHECK;

/* Removes what killed processes left of images that were being fetched or verified, unless another process is at it.
 * The half files in downloads stay: the next download goes on with them. */
void release_sweep(struct home *h);

/* The dev image at cfg's dev_url as a folder MVM_HOME/dev/prebuilt/v<version>/, which is fetched unless it is there and
 * whole. *ret_path is absolute; the caller frees it. -ENOENT where no dev_url is configured. Errors: phase
 * builder-bootstrap (config where a setting is missing). */
int release_fetch_seed(struct home *h, const struct config *cfg, struct progress *p, char **ret_path,
                       struct mvm_error *err) MVM_MUST_CHECK;

/* The builder image at cfg's builder_url into the empty folder stage_dirfd. -ENOENT where none is configured, -EPERM in
 * a source checkout: its builder image is built from its own files. */
int release_fetch_builder(struct home *h, const struct config *cfg, int stage_dirfd, struct progress *p,
                          struct mvm_error *err) MVM_MUST_CHECK;
