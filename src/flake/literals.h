/* Inputs in flake.nix that are local: string literals, found without evaluating. */
#pragma once

#include "base/macros.h"

#include <stddef.h>

/* Calls found for the absolute path of each: "path:/x" and "git+file:/x" wherever they are (decoded, without their
 * parameters), "/x" as the value of url, and of path in a set with type = "path". Comments are skipped. Stops at the
 * first value of found that is not 0 and returns it. */
int flake_literals(const char *text, int (*found)(void *data, const char *path), void *data) MVM_MUST_CHECK;
/* The absolute path of a local reference ("path:/x", "path:///x", "git+file:///x", "file:///x"), decoded and without
 * parameters; NULL for others. The caller frees. */
char *flake_url_path(const char *url);
/* Percent-encoding undone in place; a '%' without two digits behind it, or with two zeros, stays. */
void flake_url_decode(char *s);
