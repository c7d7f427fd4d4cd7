/*
 * libslirp, loaded when it is needed: with its own libraries it would be most of what is loaded whenever mvmctl starts,
 * and only the network processes use it. The types and numbers are those of its header; its functions are called by
 * this table.
 */
#pragma once

#include "base/error.h"

#include <slirp/libslirp.h>

struct libslirp {
    __typeof__(&slirp_new) new;
    __typeof__(&slirp_cleanup) cleanup;
    __typeof__(&slirp_input) input;
    __typeof__(&slirp_pollfds_fill) pollfds_fill;
    __typeof__(&slirp_pollfds_poll) pollfds_poll;
    __typeof__(&slirp_handle_timer) handle_timer;
};

/* Loads it the first time; it stays until the process ends. NULL with -ENOENT in err and the package to install where
 * it cannot be. */
const struct libslirp *libslirp_load(struct mvm_error *err);
