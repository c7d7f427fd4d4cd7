/*
 * Which versions of published images were used: MVM_HOME/dev/releases.json, {schema_version:1, versions:{"kind/arch/key
 * number": version}}. Whoever can put an old, validly signed set in place of the newest one gains nothing by it. A file
 * that cannot be read refuses everything: forgetting would be the attack.
 */
#pragma once

#include "cache/home.h"
#include "release/release.h"

/* -ESTALE where a higher version of its kind, arch and key was used before. */
int release_versions_check(struct home *h, const struct release *r, const struct minisign_key *key,
                           struct mvm_error *err) MVM_MUST_CHECK;
/* The release is used now. */
int release_versions_record(struct home *h, const struct release *r, const struct minisign_key *key,
                            struct mvm_error *err) MVM_MUST_CHECK;
