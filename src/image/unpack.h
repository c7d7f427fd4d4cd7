/* Decompression of whole files in memory, the format told by its magic: zstd, xz, gzip; anything else is returned as it
 * is. */
#pragma once

#include "base/buf.h"

#include <stdint.h>

/* Appends the decompressed bytes to out (its maximum bounds them). 1 if it was compressed, 0 if it was copied, -errno.
 * Bytes behind the compressed data are ignored (a bzImage's payload ends with its size). */
int unpack(const uint8_t *p, size_t n, struct buf *out) MVM_MUST_CHECK;
