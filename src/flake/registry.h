/* The flakes that a builder provides by name (its registry), by the hash that lock files have of them. */
#pragma once

#include "base/error.h"
#include "image/nar.h"

struct registry_flake {
    char path[128]; /* in the builder */
    char hash[NAR_HASH_SIZE];
};

struct registry {
    struct registry_flake library; /* "mvm" */
    struct registry_flake tools;   /* "mvm-tools" */
};

/* Reads them out of an image's root file system (/etc/nix/registry.json). */
int registry_load(struct registry *f, const char *rootfs, struct mvm_error *err) MVM_MUST_CHECK;
