/* How a VM starts: the actions of vm.c's table that begin, load and boot again (vm_boot.c), and that make a snapshot on
 * the way (vm_make.c). Each returns 0, or a negative number with v->error where the VM cannot go on. */
#pragma once

#include "supervisor/vm.h"

/* ---- vm_events.c ---- */

/* Something came to pass. True where a row of the table was taken. */
bool vm_happens(struct vm *v, enum vm_event e, const char *why);
/* One of the ways to begin; where it cannot, another one may. */
int vm_begin(struct vm *v, enum vm_event e, struct mvm_error *err);
void vm_say(struct vm *v, const char *fmt, ...) MVM_PRINTF(2, 3);

/* ---- vm_boot.c ---- */

/* Starts the next VMM. */
int vm_launch(struct vm *v, const struct vmm_source *source);
int vm_boot(struct vm *v);
/* Without snapshot, after v->why came of one. */
int vm_boot_instead(struct vm *v);
/* The same image once more. */
int vm_boot_again(struct vm *v);
bool vm_may_boot_again(const struct vm *v);
int vm_restore(struct vm *v);
/* From a snapshot that was made just now. */
int vm_restore_made(struct vm *v);
int vm_loaded(struct vm *v);
int vm_agent(struct vm *v);
/* The first sign of life of a guest that boots. */
void vm_note_heard(struct vm *v);
/* How long it took the VMM to load, and then to get the guest to where it is now. */
void vm_note_steps(struct vm *v, const char *then);

/* ---- vm_make.c ---- */

int vm_make(struct vm *v);
int vm_save(struct vm *v);
int vm_measure(struct vm *v);
/* The guest that was to be saved runs on as it is. */
int vm_keep_unsaved(struct vm *v);
int vm_boot_unsaved(struct vm *v);
/* The VM runs: syncing and promoting takes longer than starting, and nobody waits for it. */
int vm_seal(struct vm *v);
