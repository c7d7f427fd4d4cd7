/*
 * One file by libcurl, from an https:// or file:// URL. https stays https, also through redirects. Ends at once when
 * the user interrupts, when more bytes come than may, or when the transfer stands still.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "host/progress.h"

#include <stdint.h>

struct download_opts {
    const char *url;
    const char *name;       /* what it is called in messages and progress */
    const char *ca_file;    /* NULL: the system's certificates */
    uint32_t stall_seconds; /* how long nothing may come */
};

/* Appends the whole file to out, at most its maximum. */
int download_text(const struct download_opts *o, struct buf *out, struct progress *p,
                  struct mvm_error *err) MVM_MUST_CHECK;

/* Downloads into the regular file fd what is missing of size bytes: content it has already is gone on from, where the
 * server can, else replaced. A connection that breaks is made again as long as that brings new bytes. On failure the
 * file keeps what came, but never more than size bytes. -EMSGSIZE: the file on the server is larger. -ENODATA: it is
 * smaller. */
int download_file(const struct download_opts *o, int fd, uint64_t size, struct progress *p,
                  struct mvm_error *err) MVM_MUST_CHECK;
