/*
 * flake.lock on its way to the builder and back. Local folders (`path:/...` inputs) have their present content in every
 * build, like the flake itself: their nodes are left out as well, and those of repositories with changes. Nodes that
 * the builder itself provides (registry names "mvm" and "mvm-tools") are pinned to a path inside it; a newer builder
 * has another. They are taken out of what is staged and fingerprinted, so that Nix locks them again to what is there.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "flake/registry.h"

/* Calls found for the absolute path of each local folder, repository or file that the lock file names. A text that is
 * no lock file names none. */
int flake_lock_paths(const void *p, size_t n, int (*found)(void *data, const char *path), void *data) MVM_MUST_CHECK;
/* The lock file as the builder shall see it: without the nodes of local folders, and with those of its own flakes as
 * they are there. Nix then has nothing to lock again, which would copy and hash those flakes. */
int flake_lock_stage(const void *p, size_t n, const struct registry *flakes, struct buf *out,
                     struct mvm_error *err) MVM_MUST_CHECK;
/* The lock file without the builder's nodes and those of local folders, in out. A text that is no lock file is copied
 * as it is: Nix will say what is wrong. */
int flake_lock_strip(const void *p, size_t n, struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;
/* Do both say the same? Neither the order of keys nor the format's version matter, which Nix writes in its own way. */
bool flake_lock_same(const struct buf *a, const struct buf *b);
/* Is an input a repository with changes? Nix writes no such lock file. */
bool flake_lock_is_dirty(const void *p, size_t n);
bool flake_lock_has_inputs(const void *p, size_t n);
/* Is it a lock file that Nix can read? -EINVAL with what is wrong; folder is the flake's, for the hint. */
int flake_lock_check(const void *p, size_t n, const char *folder, struct mvm_error *err) MVM_MUST_CHECK;
