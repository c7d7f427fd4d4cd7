/*
 * A virtual machine as the host knows it: MVM_HOME/vms/<name>/ with
 *
 *   run.json      what it was started with (written once, by the starter)
 *   lock          held by the supervisor while it lives: the only truth about "running"
 *   control.sock  0600, speaks frames (docs/protocol.md)
 *   console.log   what the guest's kernel printed, capped, rotated once to console.log.1
 *   agent.log     what agent and services said, the same
 *   vmm.log       the VMM's own error output, the same
 *   *.times       beside each of these logs, when its lines came (logfile.h)
 *   last.json     how it ended, where it ended by itself
 *
 * A folder whose lock nobody holds belongs to a VM that stopped or crashed; `down` removes it, `up` with the same name
 * replaces it.
 */
#pragma once

#include "cache/home.h"
#include "cache/lock.h"

#include <sys/un.h>

#define VMDIR_MAX_NAME 63

#define VMDIR_CONFIG  "run.json"
#define VMDIR_LOCK    "lock"
#define VMDIR_SOCKET  "control.sock"
#define VMDIR_CONSOLE "console.log"
#define VMDIR_AGENT   "agent.log"
#define VMDIR_VMM     "vmm.log"
#define VMDIR_LAST    "last.json"

/* -EINVAL with phase usage: empty, longer than VMDIR_MAX_NAME, or other than [A-Za-z0-9][A-Za-z0-9._-]*. */
int vmdir_check_name(const char *name, struct mvm_error *err) MVM_MUST_CHECK;

/* Opens MVM_HOME/vms/<name>: a descriptor, -ENOENT. For logs. */
int vmdir_open(struct home *h, const char *name, struct mvm_error *err) MVM_MUST_CHECK;

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
