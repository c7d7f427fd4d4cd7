/* What vfkit is started with, and what it is told over its REST service: the handle of one that runs. Descriptions of
 * both: doc/usage.md of vfkit 0.6. */
#pragma once

#include "vmm/vmm.h"

/* What this host lacks for it whatever is installed: 0, or -ENOTSUP. */
int vfkit_host(struct mvm_error *err) MVM_MUST_CHECK;

/* -ENOTSUP where the file is no kernel that Apple's loader for Linux boots on that machine (os_arch()). */
int vfkit_check_kernel(const char *path, const char *machine, struct mvm_error *err) MVM_MUST_CHECK;

#define VFKIT_ARGS 48
struct vfkit_args {
    char *v[VFKIT_ARGS + 1];
    size_t n;
    int error;
};

/* Its arguments; folder_fd: where its sockets are, under a number that it has, too. */
int vfkit_args(struct vfkit_args *a, const struct vmm_config *c, int folder_fd, struct mvm_error *err) MVM_MUST_CHECK;
void vfkit_args_done(struct vfkit_args *a);

/* See struct vmm_ops. */
int vfkit_open(int control_fd, const struct vmm_config *c, struct vmm **ret);
bool vfkit_input(struct vmm *v, const void *p, size_t n);
const struct vmm_facts *vfkit_facts(const struct vmm *v);
int vfkit_pause(struct vmm *v, struct vmm_done d);
int vfkit_resume(struct vmm *v, struct vmm_done d);
int vfkit_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d);
int vfkit_ask_halted(struct vmm *v, struct vmm_done d);
int vfkit_cannot(struct vmm *v);
int vfkit_quit(struct vmm *v);
void vfkit_ended(struct vmm *v);
void vfkit_mute(struct vmm *v);
void vfkit_free(struct vmm *v);
