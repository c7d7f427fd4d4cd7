/* What Firecracker is told over its API: the handle of one that runs. Descriptions of the API: src/firecracker/swagger
 * and docs/ of Firecracker 1.12 to 1.17. */
#pragma once

#include "host/json.h"
#include "vmm/vmm.h"

/* The parts of a machine, in the order in which they are told: the i-th one's path and body, which the caller frees;
 * NULL behind the last. Without names of files where `same` is set. */
#define FIRECRACKER_PATH_MAX 32
json_object *firecracker_part(const struct vmm_config *c, unsigned i, bool same,
                              char path[static FIRECRACKER_PATH_MAX]);

/* See struct vmm_ops. */
int firecracker_open(int control_fd, const struct vmm_config *c, struct vmm **ret);
bool firecracker_input(struct vmm *v, const void *p, size_t n);
const struct vmm_facts *firecracker_facts(const struct vmm *v);
int firecracker_pause(struct vmm *v, struct vmm_done d);
int firecracker_resume(struct vmm *v, struct vmm_done d);
int firecracker_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d);
int firecracker_restore(struct vmm *v, int state_fd, bool whole, struct vmm_done d);
int firecracker_ask_halted(struct vmm *v, struct vmm_done d);
int firecracker_cannot(struct vmm *v);
void firecracker_ended(struct vmm *v);
void firecracker_mute(struct vmm *v);
void firecracker_free(struct vmm *v);
