/* Landlock and the lists of system calls, for who confines itself: mvm-jail before it executes a VMM or a network
 * process (inside.c), a supervisor (self.c). libc alone. */
#pragma once

#include <stdbool.h>

enum landlock_access {
    LANDLOCK_READ,  /* files, and what folders have in them */
    LANDLOCK_RUN,   /* and execute files */
    LANDLOCK_WRITE, /* read and write files that are there */
    LANDLOCK_CLEAR, /* remove empty folders */
    LANDLOCK_OWN,   /* all that can be done below a folder but executing: make, rename, remove */
};

/* Opens a set of rules that allows nothing: a descriptor, or -errno where the kernel has none. *ret_abi: 0 then.
 * signals: processes outside can be signalled. */
int landlock_open(bool signals, int *ret_abi);
/* Allows the file or all below the folder. 0 where it is not there. */
int landlock_path(int rules, int abi, const char *path, enum landlock_access access);
int landlock_fd(int rules, int abi, int fd, enum landlock_access access);
int landlock_enforce(int rules);

enum filter_role { FILTER_VMM, FILTER_VMM_SOCKETS, FILTER_NETWORK, FILTER_SUPERVISOR };
/* filter.c: the allow-list of system calls. 0 or -errno. */
int filter_enforce(enum filter_role role);
