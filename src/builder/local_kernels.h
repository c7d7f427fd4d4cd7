/* Artifacts that the host has itself: the kernels that guests run. The builder is told their digests and does not send
 * them back. */
#pragma once

#include "cache/home.h"
#include "host/sha256.h"
#include "wire/msg.h"

#include <stdint.h>

#define KNOWN_MAX 2

struct known_file {
    int fd;
    uint64_t size; /* bytes */
    char sha256[SHA256_HEX_SIZE];
};

struct known_files {
    struct known_file v[KNOWN_MAX];
    size_t n;
};

/* The kernel of the builder image in that folder, and the slim kernel of the cache. What cannot be read, like the
 * kernel of an image without a manifest (a seed), is not known, which only makes builds slower. The files stay open: an
 * image that is replaced meanwhile stays what it was. */
void known_load(struct known_files *k, struct home *h, const char *image);
/* The digests as a job tells them. Borrows: v must outlive the list. */
struct msg_strings known_digests(struct known_files *k, char *v[static KNOWN_MAX]);
/* Copies the file of that key (TREE_KEY_SIZE) to name in the open folder parent, mode 0644: 0 with the file, -ENOENT
 * where there is none, -EBADMSG where its content is not of that digest any more (the copy is there then). */
int known_take(const struct known_files *k, const uint8_t *key, int parent, const char *name,
               const struct known_file **ret);
void known_done(struct known_files *k);
