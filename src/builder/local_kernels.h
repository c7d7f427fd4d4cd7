/* Artifacts that the host has itself: the kernels that guests run. The builder is told their digests and does not send
 * them back. */
#pragma once

#include "cache/home.h"
#include "host/sha256.h"
#include "wire/msg.h"

#include <stdint.h>

#define LOCAL_KERNELS_MAX 2

struct local_kernel {
    int fd;
    uint64_t size; /* bytes */
    char sha256[SHA256_HEX_SIZE];
};

struct local_kernels {
    struct local_kernel v[LOCAL_KERNELS_MAX];
    size_t n;
};

/* The kernel of the builder image in that folder, and the slim kernel of the cache. What cannot be read, like the
 * kernel of an image without a manifest (a seed), is not known, which only makes builds slower. The files stay open: an
 * image that is replaced meanwhile stays what it was. */
void local_kernels_load(struct local_kernels *k, struct home *h, const char *image);
/* The digests as a job tells them. Borrows: v must outlive the list. */
struct msg_strings local_kernels_digests(struct local_kernels *k, char *v[static LOCAL_KERNELS_MAX]);
/* Copies the file of that key (TREE_KEY_SIZE) to name in the open folder parent, mode 0644: 0 with the file, -ENOENT
 * where there is none, -EBADMSG where its content is not of that digest any more (the copy is there then). */
int local_kernels_take(const struct local_kernels *k, const uint8_t *key, int parent, const char *name,
                       const struct local_kernel **ret);
void local_kernels_done(struct local_kernels *k);
