/*
 * Paths and small files, always relative to an open directory. Names from outside are resolved with openat2 so
 * that neither ".." nor a symlink leads out of the tree.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* "a/b" from parts, up to the NULL argument; NULL where memory is short. The caller frees. */
char *path_join(const char *first, ...) __attribute__((sentinel));

/* True for a name usable as one path component: 1 to max bytes of [A-Za-z0-9._-], the first a letter or digit. */
bool path_is_plain_name(const char *name, size_t max);

/* True for a relative path without empty, "." or ".." components and without NUL, at most 4095 bytes. */
bool path_is_safe_relative(const char *path);

/* Makes path and its missing parents (mode 0700 each) and opens it as a directory: a descriptor or -errno; -EPERM where
 * it belongs to another user than the one who runs this. */
int path_open_dir(int dirfd, const char *path, struct mvm_error *err) MVM_MUST_CHECK;

/* Makes the missing parent directories of path below dirfd, following no symlink. 0 or -errno. */
int path_make_parents(int dirfd, const char *path, mode_t mode) MVM_MUST_CHECK;

/* Reads a whole regular file of at most out->max bytes. -EMSGSIZE where it is larger. */
int path_read_file(int dirfd, const char *name, struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;

/* Replaces name with the content as one step: temporary file, fsync where sync, rename. */
int path_write_file(int dirfd, const char *name, const void *data, size_t len, mode_t mode, bool sync,
                    struct mvm_error *err) MVM_MUST_CHECK;

/* Removes below the folder what processes left that were killed while they wrote a file so: the temporary file has its
 * writer's number in its name, and is left where that runs or the file is younger than a minute. */
void path_sweep_temporary(int dirfd);

/* Points the symlink name at target as one step. */
int path_replace_symlink(int dirfd, const char *target, const char *name, struct mvm_error *err) MVM_MUST_CHECK;

/* Calls each for every entry of a folder but . and .., until one returns other than 0: that, 0, or -errno where the
 * folder could not be read, or not to its end. */
int path_each(int dirfd, const char *name, int (*each)(void *data, const char *entry), void *data) MVM_MUST_CHECK;

/* Removes a file or a whole tree (read-only folders too), following no symlink; one that is absent is no error. */
int path_remove_tree(int dirfd, const char *name) MVM_MUST_CHECK;
