/* Objects of a repository, by libgit2 from the store that is opened by its path: for the child that reads it. */
#pragma once

#include "flake/git.h"
#include "flake/libgit2.h"

struct git_store {
    const struct libgit2 *lib;
    git_odb *odb;
};

bool git_store_open(struct git_store *s, const struct git_repo *g, const struct libgit2 *lib);
void git_store_done(struct git_store *s);
/* The caller frees it with lib->odb_object_free. NULL where it is not there, or of another type. */
git_odb_object *git_store_read(struct git_store *s, const git_oid *id, git_object_t type);

/* `left` bytes are there at hex. */
bool git_oid_parse(const char *hex, size_t left, git_oid *ret);
/* Calls parent (NULL: nothing) for each, until it returns false. *time is what its committer had, seconds since 1970.
 */
bool git_commit_parse(const char *text, size_t size, git_oid *tree, uint64_t *time,
                      bool (*parent)(void *data, const git_oid *id), void *data);

#define GIT_MODE_FOLDER 0040000u

struct git_tree_entry {
    unsigned mode;
    const char *name; /* in the tree's data */
    git_oid id;
};

/* The entry at *at of a tree's data, and on to the next. False at its end, and where it is none: then *at stays. */
bool git_tree_next(const char **at, const char *stop, struct git_tree_entry *ret);
