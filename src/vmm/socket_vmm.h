/*
 * Starting a VMM that takes no connected descriptors: it listens on a socket for commands and connects to another when
 * the guest's agent does. Both are in a folder below the VM's, which it has as a descriptor: no path is too long, and
 * in its jail there is no other folder that it could reach.
 */
#pragma once

#include "vmm/program.h"

/* The descriptors that such a VMM has, under these numbers: a saved state has them in it. */
#define SOCKET_VMM_FOLDER_FD 100
#define SOCKET_VMM_MEMORY_FD 101
/* The same as paths, for the VMM. */
#define SOCKET_VMM_FOLDER "/proc/self/fd/100/"
#define SOCKET_VMM_MEMORY "/proc/self/fd/101"

/* What is in the folder. The agent's port is where every guest connects (src/guest, tests/guest). */
#define SOCKET_VMM_API    "api.sock"
#define SOCKET_VMM_VSOCK  "agent.sock"
#define SOCKET_VMM_PORT   "1024"
#define SOCKET_VMM_AGENT  SOCKET_VMM_VSOCK "_" SOCKET_VMM_PORT
#define SOCKET_VMM_STATE  "state"
#define SOCKET_VMM_INITRD "initrd"

/* Opens the folder, or makes it. */
int socket_vmm_folder(const struct vmm_config *c, struct mvm_error *err) MVM_MUST_CHECK;
/* Starts the program and waits until it takes commands. Its arguments name the sockets as above. */
int socket_vmm_start(const struct vmm_config *c, const struct program *p, const char *const *argv,
                     struct vmm_started *ret, struct mvm_error *err) MVM_MUST_CHECK;

/* The same in parts, for a program that is started in another way. The folder, which nothing of a VMM before is left
 * in, under SOCKET_VMM_FOLDER_FD; and the socket where its guest's agent connects. */
int socket_vmm_prepare(const struct vmm_config *c, int *ret_listener, struct mvm_error *err) MVM_MUST_CHECK;
/* Waits for its command socket in the folder: a connection to it. */
int socket_vmm_connect(const struct process *p, int folder, struct mvm_error *err) MVM_MUST_CHECK;
