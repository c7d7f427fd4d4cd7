/*
 * The builder's store, /nix: a disk that the host keeps. Here it is checked, mounted and grown, and here room is made
 * in it. Everything in it can be built again, so what cannot be trusted is given up, not rescued.
 */
#pragma once

#include "base/error.h"
#include "wire/msg.h"

#include <stdint.h>

/* What can be done before the host says which VM this is: with what disk, that is. */
void nix_store_prepare(void);

/* Mounts the disk that the kernel command line names (mvm.store). With m->store_check, or where it does not mount as it
 * is, the file system is checked first (e2fsck -p), and Nix's database behind it. Lets the file system fill its device.
 * ret->store and ret->problem say how it went. */
void nix_store_mount(const struct msg_configure *m, struct msg_configured *ret);

/* Protects an output from collection until MSG_STORE no longer names it. 0 or -errno. */
int nix_store_protect(const char *path);

/* Makes room for a build that found none, whatever was built before it: true where something was freed. */
bool nix_store_make_room(void);

/* Serves MSG_STORE. */
void nix_store_serve(int sock, const struct msg_store *m) __attribute__((noreturn));

/* Serves MSG_FREEZE: MSG_EXIT when the file system stands still, and that it does until the stream ends. */
void freeze_serve(int sock) __attribute__((noreturn));

/* True for "/nix/store/NAME". */
bool nix_store_is_path(const char *path);
