/*
 * Refs of a repository, read as the files that git writes: for the child that reads it. A ref in a further work tree is
 * that of the work tree before that of the repository.
 */
#pragma once

#include "flake/git.h"

/* Does the text begin with the 40 digits of an object's name? */
bool git_is_rev(const char *text);
/* What HEAD leads to. False before the first commit. */
bool git_ref_head(const struct git_repo *g, char out[static GIT_REV_SIZE]);
/* What a ref leads to, by its full or short name ("main", "v1", "origin/main", "refs/pull/1/head"), in git's order
 * (gitrevisions(7)). False: there is none. */
bool git_ref_find(const struct git_repo *g, const char *name, char out[static GIT_REV_SIZE]);
