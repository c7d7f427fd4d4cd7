/*
 * Digests of files that were read once, so that unchanged files are not read again. An entry holds only while device,
 * inode, size, mode, mtime and ctime are what they were; ctime cannot be set by a program, so that touching, replacing
 * or rewriting a file moves it. A file changed in the last moments before it was read is not entered (its timestamps
 * could stay the same through another change: git's "racy" problem). It protects against accidents and ordinary
 * programs, not against somebody who writes to the disk below the file system.
 *
 * One index file per tree, in MVM_CACHE_DIR/stat-index/, loaded whole, written by rename; a damaged one is an empty
 * one.
 */
#pragma once

#include "base/error.h"
#include "host/sha256.h"

#include <stdbool.h>
#include <sys/stat.h>

struct statindex;

/* key: what the index is for (a tree's absolute path); hashed into the file's name. Never fails but for memory (NULL).
 */
struct statindex *statindex_load(int cache_fd, const char *key);
/* The digest of the file at path (the name in this index) with that stat, if known. */
bool statindex_get(struct statindex *s, const char *path, const struct stat *st, char out[static SHA256_HEX_SIZE]);
/* Enters one; read_at: clock_wall() before the file was opened for reading. */
void statindex_put(struct statindex *s, const char *path, const struct stat *st, uint64_t read_at,
                   const char digest[static SHA256_HEX_SIZE]);
/* Writes it if it changed, keeping only entries seen (got or put) since loading. Failure to write is not an error. One
 * that could not be read when it was loaded is not replaced. */
void statindex_save(struct statindex *s);
void statindex_free(struct statindex *s);
