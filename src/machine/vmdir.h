/* The folder of one VM: MVM_HOME/vms/<name>/. Shared by the files of this room. */
#pragma once

#include "cache/home.h"
#include "cache/lock.h"
#include "machine/machine.h"

#include <sys/un.h>

#define VMDIR_CONFIG  "run.json"
#define VMDIR_LOCK    "lock"
#define VMDIR_SOCKET  "control.sock"
#define VMDIR_CONSOLE "console.log"
#define VMDIR_AGENT   "agent.log"
#define VMDIR_VMM     "vmm.log"
#define VMDIR_LAST    "last.json"

/* Opens MVM_HOME/vms, making it. */
int vmdir_open_all(struct home *h, struct mvm_error *err) MVM_MUST_CHECK;

/* Makes (or takes over from a VM that is gone) the folder and takes its lock. -EEXIST where the VM runs. The lock's
 * descriptor is meant to be handed to the supervisor. */
int vmdir_create(int vms_fd, const char *name, struct lock *lock, int *ret_fd, struct mvm_error *err) MVM_MUST_CHECK;

/* Removes the folder of a VM that does not run, under its lock; `lock` is held or taken here. -EBUSY where it runs. */
int vmdir_remove(int vms_fd, const char *name, uint64_t deadline, struct mvm_error *err) MVM_MUST_CHECK;

/* A Unix socket address for a name in an open folder: by way of /proc/self/fd, because a path may be longer than the
 * 108 bytes that sun_path has. */
struct sockaddr_un vmdir_socket_address(int dirfd);
