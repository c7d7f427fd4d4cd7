/*
 * QEMU's control protocol (QMP), as little as snapshots need. Commands are written ahead of their answers: QEMU takes
 * them one after the other. QEMU manual: docs/interop/qmp-spec.txt, qapi/migration.json.
 */
#pragma once

#include "vmm/vmm.h"

/* See struct vmm_ops. */
int qmp_quit(int control_fd);
int qmp_save(int control_fd, int state_fd, bool whole);
int qmp_restore(int control_fd, int state_fd, bool whole);
int qmp_cancel(int control_fd);
int qmp_hurry(int control_fd);
int qmp_pause(int control_fd);
int qmp_resume(int control_fd);
int qmp_ask_halted(int control_fd);
enum vmm_event qmp_read(struct vmm_control *c, char *problem, size_t size);
