/*
 * The seam to the operating system, of what guest and host share: each function has one file per system (os_linux.c,
 * os_darwin.c; the guest is always Linux). What only mvmctl needs is in host/os.h. Nothing else asks which system this
 * is. Functions return 0 or a descriptor, else -errno, unless they say otherwise.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The path of the program that runs. */
int os_self_path(char *out, size_t size) MVM_MUST_CHECK;

/* A pipe whose ends no program inherits. */
int os_pipe(int ret[2]) MVM_MUST_CHECK;

/* out_fd gets in_fd's content without a byte being copied. -EOPNOTSUPP and others where that cannot be. */
int os_clone_file(int in_fd, int out_fd) MVM_MUST_CHECK;
/* Copies up to n bytes from one place to the same one of the other file, inside the kernel. The count, -EOPNOTSUPP
 * where it cannot. */
ssize_t os_copy_range(int in_fd, int out_fd, off_t at, size_t n) MVM_MUST_CHECK;
/* Has the file system refuse every later change of the file's content and verify what it reads (kernel:
 * Documentation/filesystems/fsverity.rst). The descriptor is for reading and no process has the file open for writing.
 * -EOPNOTSUPP and -ENOTTY where file system or kernel cannot. */
int os_enable_verity(int fd) MVM_MUST_CHECK;

/* Opens below dirfd, never leaving it, following no symlink: a descriptor or -errno. flags as for open(2), O_CLOEXEC is
 * added. */
int os_open_beneath(int dirfd, const char *path, int flags, mode_t mode) MVM_MUST_CHECK;
/* A file without a name in that folder, for linkat(2). -EOPNOTSUPP where the file system has none. */
int os_open_unnamed(int dirfd, const char *dir, mode_t mode) MVM_MUST_CHECK;
/* Gives an unnamed file its name: -EEXIST where it is taken. */
int os_name_file(int fd, int dirfd, const char *name) MVM_MUST_CHECK;

/* A child as fork(2) makes it; in a cgroup (its folder's descriptor; 0: the caller's), or as the parent's child where
 * sibling is set. -ENOSYS where the system has no such thing. */
pid_t os_fork(int cgroup_fd, bool sibling) MVM_MUST_CHECK;
/* In a child between fork and exec: it is killed when its parent ends. -ENOSYS where it has to see to that itself. */
int os_die_with_parent(void) MVM_MUST_CHECK;
/* Every descriptor from 3 on is closed by exec. */
int os_close_on_exec(void) MVM_MUST_CHECK;
/* Closes every descriptor from that one on. */
int os_close_from(unsigned first) MVM_MUST_CHECK;
/* execvp(3) with an environment; returns where that failed. */
void os_exec(const char *const *argv, char *const *envp);
/* A descriptor that is readable once that child has ended, before it is waited for. */
int os_watch_process(pid_t pid) MVM_MUST_CHECK;
/* A signal to the process that is watched, never to another that got its number. */
int os_signal_process(int watch_fd, pid_t pid, int sig) MVM_MUST_CHECK;
