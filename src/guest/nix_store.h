/*
 * The builder's store: which of its outputs are kept, and how room is made in it. Everything in it can be built again,
 * so what cannot be trusted is given up, not rescued.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "wire/msg_build.h"

#include <stdbool.h>
#include <stdint.h>

#define NIX_STORE_ROOTS "/nix/var/nix/gcroots/mvm" /* a symlink for each output that is to stay */

/* Runs a program of Nix or of the file system to its end, its output into out (may be NULL), what it said to the
 * kernel's log: the exit status or -errno. */
int nix_store_run(const char *const argv[], struct buf *out);
/* How large the disk's file system is, and how much of it is used, in bytes. */
uint64_t nix_store_size(uint64_t *ret_used);
/* Keeps some room of the disk, as far as there is some, and gives it up: on a full disk nothing can be collected. */
void nix_store_take_reserve(void);
void nix_store_drop_reserve(void);

/* Protects an output from collection until MSG_STORE no longer names it. 0 or -errno. */
int nix_store_protect(const char *path);

/* Makes room for a build that found none, whatever was built before it: true where something was freed. */
bool nix_store_make_room(void);

/* Serves MSG_STORE. */
void nix_store_serve(int sock, const struct msg_store *m) __attribute__((noreturn));

/* True for "/nix/store/NAME". */
bool nix_store_is_path(const char *path);
