/* What a file is called: here by SHA-256, by git by the SHA-1 of "blob SIZE", NUL and content. SHA-1 tells only whether
 * git would call a file changed. */
#pragma once

#include "flake/git.h"
#include "host/sha256.h"

/* Both digests of an open file of that size, read once. -ESTALE where it has another size. */
int blob_digest_fd(int fd, uint64_t size, char sha256[static SHA256_HEX_SIZE],
                   char id[static GIT_REV_SIZE]) MVM_MUST_CHECK;
/* git's name of a text: of a symlink's target. */
void blob_id(const char *text, char id[static GIT_REV_SIZE]);
