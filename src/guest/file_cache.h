/*
 * The flakes' files that a builder has seen, by their contents, so that the next build's tree brings only what changed:
 * BUILD_FILES/<first two digits>/<the other digits of SHA-256>[x]. Trees have hard links to them:
 * they are as Nix has files in its store (modes 0444 and 0555, modified at 1), and no builder can write to them
 * (source.h). The host computes the digests; a chunk's checksum has found damage on the way. A file's access time is
 * that of its last use.
 */
#pragma once

#include "wire/tree.h"

extern const struct tree_keeper file_cache_keeper;

/* Keeps what the keeper has been told of a complete tree. Many files are left to a process that joins the cgroup whose
 * procs file is given and ends with it; sock is closed there. */
void file_cache_keep(int tree, int procs_fd, int sock);
/* Is the content of that key there? */
bool file_cache_has(const uint8_t *key);
/* Removes those that no tree has had for so many seconds. */
void file_cache_sweep(long max_age_s);
#define FILE_CACHE_MAX_AGE_S (14l * 86400)
#define FILE_CACHE_MIN_AGE_S 3600l /* younger ones may be on their way into a tree */
