/* Inputs in flake.nix that are local: string literals, found without evaluating. */
#pragma once

#include "base/macros.h"

#include <stddef.h>

/* Calls found for the absolute path of each: what url says where it is local (flake_url_path, or "/x"), and path in a
 * set with type = "path". Stops at the first value of found that is not 0 and returns it. -EOVERFLOW: sets within sets
 * or local inputs without number. What Nix's parser refuses may have inputs that are not found. */
int flake_literals(const char *text, int (*found)(void *data, const char *path), void *data) MVM_MUST_CHECK;
/* The absolute path of a local reference ("path:/x", "path:///x", "git+file:///x", "file:///x.tar.gz", ...), decoded
 * and without parameters; NULL for others. The caller frees. */
char *flake_url_path(const char *url);
/* Percent-encoding undone in place; a '%' without two digits behind it, or with two zeros, stays. */
void flake_url_decode(char *s);
