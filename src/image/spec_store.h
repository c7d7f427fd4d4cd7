/* Store paths of a spec (spec.h): where they lie, whole closures, and the programs of packages. */
#pragma once

#include "image/spec.h"

/* Where on this machine a source lies. The caller frees. */
char *spec_locate(const struct spec *s, const char *source);
/* Adds what a graph (closure.h) lists without its outer layers. */
int spec_add_closure(struct spec *s, const char *file, unsigned peel, struct mvm_error *err) MVM_MUST_CHECK;
/* Adds a symlink to each program of the package to the folder. */
int spec_add_programs(struct spec *s, const char *package, const char *folder, struct mvm_error *err) MVM_MUST_CHECK;
