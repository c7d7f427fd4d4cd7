/*
 * What lies outside of a flake's tree and may still be read and staged: folders and files that the user has named
 * (--allow-input, allow_inputs in config.toml), and what is below them. Nothing that a tree says adds to it.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define FLAKE_MAX_ALLOW 32

struct flake_allow {
    char *v[FLAKE_MAX_ALLOW]; /* absolute, without symlinks; owned */
    size_t n;
};

/* Adds a path. -ENOENT and the like where it cannot be resolved, -E2BIG where there are too many. */
int flake_allow_add(struct flake_allow *a, const char *path, struct mvm_error *err) MVM_MUST_CHECK;
/* real: an absolute path without symlinks. */
bool flake_allows(const struct flake_allow *a, const char *real);
void flake_allow_done(struct flake_allow *a);

/* Is the path the folder or below it? Both absolute, without symlinks. */
bool path_is_below(const char *path, const char *folder);
