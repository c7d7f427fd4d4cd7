/*
 * A forked child that reads what somebody else wrote (a git index, git objects) with a library that parses it. Before
 * it reads the first byte it gives up everything but reading: Landlock where the kernel has it leaves it the named
 * folders, a seccomp filter leaves it the system calls of a program that reads files and allocates memory, at most
 * 1 GiB of it. It has no descriptor but a pipe to us and what is named, and cannot run a program, open a socket, open a
 * file for writing or trace another process.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stddef.h>

struct confined_work {
    const char *const *folders; /* absolute paths; what lies below them can be read */
    size_t n_folders;
    int (*prepare)(struct mvm_error *err); /* in the child, before it is confined: loads libraries. NULL: nothing */
    int (*work)(void *data, struct buf *out, struct mvm_error *err); /* in the child, confined */
    void *data;
    int fd; /* one more descriptor that the child has, as CONFINED_FD; -1: none */
};
#define CONFINED_FD 4

/* Runs work in such a child and takes over what it appended to out (out->max bytes at most) or its error (message,
 * hint, code). -ETIMEDOUT after a minute, -EINTR where this program was interrupted: the child is gone then. */
int confined_run(const struct confined_work *w, struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;

/* Confines the calling process for good. -errno where the seccomp filter or an existing Landlock refuses. */
int confine_reader(const char *const *folders, size_t n) MVM_MUST_CHECK;
