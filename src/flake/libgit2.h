/*
 * libgit2, loaded in the child that reads a repository: with its own libraries it would be most of what is loaded
 * whenever mvmctl starts. Only what opens an index or objects by path is used. git_repository_open is not: it obeys the
 * repository's configuration (core.worktree, include.path), and refuses repositories of another owner.
 */
#pragma once

#include "base/error.h"

#include <git2.h>

struct libgit2 {
    __typeof__(&git_libgit2_init) init;
    __typeof__(&git_error_last) error_last;
    __typeof__(&git_index_open) index_open;
    __typeof__(&git_index_free) index_free;
    __typeof__(&git_index_entrycount) index_entrycount;
    __typeof__(&git_index_get_byindex) index_get_byindex;
    __typeof__(&git_odb_open) odb_open;
    __typeof__(&git_odb_free) odb_free;
    __typeof__(&git_odb_read) odb_read;
    __typeof__(&git_odb_object_free) odb_object_free;
    __typeof__(&git_odb_object_type) odb_object_type;
    __typeof__(&git_odb_object_data) odb_object_data;
    __typeof__(&git_odb_object_size) odb_object_size;
};

/* Loads it the first time; it stays until the process ends. NULL with -ENOENT in err and the package to install where
 * it cannot be. */
const struct libgit2 *libgit2_load(struct mvm_error *err);
