/*
 * Built images in MVM_CACHE_DIR/artifacts/<digest>/, content addressed, read only. Staging folders
 * (artifacts/.stage-<pid>-<n>/) are promoted by rename; those of dead processes are swept.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "image/manifest.h"

struct artifact_stage {
    int fd;        /* the folder to write artifacts into */
    char name[64]; /* below artifacts/ */
    int lock_fd;   /* private: says that the stage is alive */
};

#define ARTIFACT_STAGE_INIT                                                                                            \
    {                                                                                                                  \
        .fd = -1, .lock_fd = -1                                                                                        \
    }
#define CLEAN_ARTIFACT_STAGE CLEANUP(artifact_stage_done)

/* Removes the staging folders that dead processes left. */
void artifact_sweep(struct home *h);
/* Makes a staging folder; sweeps those that dead processes left. */
int artifact_stage_open(struct artifact_stage *s, struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* Validates the image in the stage (image_validate), writes manifest.json from m, makes files 0444 and the folder 0555,
 * syncs and promotes it. Where the same digest exists already and is whole, that one is kept. digest receives its name.
 */
int artifact_stage_commit(struct artifact_stage *s, struct home *h, const struct manifest *m,
                          char digest[static SHA256_HEX_SIZE], struct mvm_error *err) MVM_MUST_CHECK;
/* Removes what was not committed. */
void artifact_stage_done(struct artifact_stage *s);

struct artifact_image {
    int dirfd;
    char *path; /* absolute, owned */
    char digest[SHA256_HEX_SIZE];
    struct manifest manifest;
    struct image_metadata metadata; /* zero where the image has no image.json */
};

#define ARTIFACT_IMAGE_INIT                                                                                            \
    {                                                                                                                  \
        .dirfd = -1                                                                                                    \
    }
#define CLEAN_ARTIFACT_IMAGE CLEANUP(artifact_image_done)

/* Opens an image and verifies every artifact against the manifest, by the stat index or by reading. An image that is
 * damaged, or has a file that its manifest does not list, is removed and -EBADMSG returned with a message naming the
 * file (not its digest); -ENOENT where there is none. */
int artifact_image_open(struct artifact_image *img, struct home *h, const char *digest,
                        struct mvm_error *err) MVM_MUST_CHECK;
/* The same of a folder that is the user's: its digest stays empty, it is validated, verified if it has a manifest.json,
 * and never removed. read: every byte is read; -EINVAL where there is no manifest.json. */
int artifact_image_open_folder(struct artifact_image *img, struct home *h, const char *path, bool read,
                               struct mvm_error *err) MVM_MUST_CHECK;
/* Verifies an image by reading every byte of it, whatever the stat index knows. Errors as with artifact_image_open; a
 * damaged one is removed only where remove says so. */
int artifact_image_read(struct home *h, const char *digest, bool remove, struct mvm_error *err) MVM_MUST_CHECK;
void artifact_image_done(struct artifact_image *img);

/* Calls each for the digest of every image there is, until one returns other than 0: that, 0, or -errno. */
int artifact_each(struct home *h, int (*each)(void *data, const char *digest), void *data,
                  struct mvm_error *err) MVM_MUST_CHECK;
/* Finds the only image whose digest starts with prefix (at least 6 hex digits): -ENOENT, or -EEXIST where several do.
 */
int artifact_find(struct home *h, const char *prefix, char digest[static SHA256_HEX_SIZE],
                  struct mvm_error *err) MVM_MUST_CHECK;
