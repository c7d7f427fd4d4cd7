/* What a repository's work tree was checked out from: for the child that reads it (gitindex.c). */
#pragma once

#include "flake/git.h"
#include "flake/libgit2.h"

/* Fills in the commit that HEAD leads to, and whether the index has exactly what it has. Nothing is an error: without a
 * commit, or where its objects are not there (a partial clone), there is no revision. */
void git_head_read(const struct git_repo *g, const struct libgit2 *lib, git_index *index, struct git_head *ret);
