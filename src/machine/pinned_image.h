/*
 * Images that user snapshots need: MVM_HOME/snapshots/.images/<key>/, the files of an image, kept apart from the cache,
 * because what the cache has may go at any time. The key is the image's digest, or, of an image in a folder, a digest
 * of where its files are and their stats. Files of the cache's images are hard links where the file system allows it;
 * those of a folder are copies, because its owner may write to them.
 */
#pragma once

#include "host/sha256.h"
#include "vmdir/runfile.h"

/* Makes sure that the image a VM runs is kept. Under the snapshots' lock. root: MVM_HOME/snapshots. */
int pinned_image_keep(int root, const struct runfile *run, char key[static SHA256_HEX_SIZE],
                      struct mvm_error *err) MVM_MUST_CHECK;
/* Removes the images that `used` says nobody needs, and unfinished ones. Under the lock. */
void pinned_image_sweep(int root, bool (*used)(void *data, const char *key), void *data);
/* Absolute path of one, into path. */
void pinned_image_path(const char *state, const char *key, char *path, size_t size);
/* Opens one's root file system's folder: a descriptor, -errno. */
int pinned_image_open(int root, const char *key) MVM_MUST_CHECK;
