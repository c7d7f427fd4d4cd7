/*
 * QEMU's control protocol (QMP), as little as this program needs. Commands are written ahead of their answers: QEMU
 * takes them one after the other. Each has an id, by which its answer is known. QEMU manual: docs/interop/qmp-spec.txt,
 * qapi/migration.json.
 */
#pragma once

#include "vmm/vmm.h"

/* See struct vmm_ops. */
int qmp_open(int control_fd, const struct vmm_config *c, struct vmm **ret);
bool qmp_input(struct vmm *v, const void *p, size_t n);
const struct vmm_facts *qmp_facts(const struct vmm *v);
int qmp_pause(struct vmm *v, struct vmm_done d);
int qmp_resume(struct vmm *v, struct vmm_done d);
int qmp_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d);
int qmp_restore(struct vmm *v, int state_fd, bool whole, struct vmm_done d);
int qmp_ask_halted(struct vmm *v, struct vmm_done d);
int qmp_cancel(struct vmm *v);
int qmp_hurry(struct vmm *v);
int qmp_quit(struct vmm *v);
void qmp_ended(struct vmm *v);
void qmp_mute(struct vmm *v);
void qmp_free(struct vmm *v);
