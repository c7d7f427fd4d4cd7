/* What the files of mvm-jail share: a static program of libc alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* landlock.c: opens a set of rules that allows nothing: a descriptor, or -errno where the kernel has none. *ret_abi. */
int inside_landlock_open(int *ret_abi);
/* Allows the file or all below the folder. 0 where it is not there. */
int inside_landlock_path(int rules, int abi, const char *path, bool write);
int inside_landlock_fd(int rules, int abi, int fd, bool write);
int inside_landlock_enforce(int rules);

/* filter.c: the allow-list of system calls. 0 or -errno. */
int inside_filter(void);
