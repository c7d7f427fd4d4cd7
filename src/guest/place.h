/*
 * Local inputs at the paths by which a flake names them, for one job alone. Mount points are never made in the
 * builder's own folders: a folder that lacks a name is covered, in the job's mount namespace, by one in memory that has
 * the same entries and the new one. So nothing is left when the job ends, and jobs beside it see nothing.
 */
#pragma once

#include <sys/types.h>

#define PLACE_MAX 64

struct place {
    const char *work; /* the job's folder: covers are made there before they are moved */
    dev_t covers[PLACE_MAX * 2];
    size_t n_covers;
};

/* Enters a mount namespace of its own. 0 or -errno. */
int place_begin(struct place *p, const char *work);
/* Makes `from`, a folder or file, appear at the absolute path `to`. -EPERM where the path is the builder's own (its
 * store, or a kernel file system), -ENOTEMPTY where it would hide a folder that the builder has, or another error. */
int place_put(struct place *p, const char *from, const char *to);
