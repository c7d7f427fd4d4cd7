/*
 * flake.lock on its way to the builder and back. Nodes that the builder itself provides (registry names "mvm" and "mvm-tools") are pinned to a
 * path inside it; a newer builder has another. They are taken out of what is staged and fingerprinted, so that Nix locks them
 * again to what is there.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

/* The lock file without the builder's nodes, in out. A text that is no lock file is copied as it is: Nix will say what is wrong. */
int flake_lock_strip(const void *p, size_t n, struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;
