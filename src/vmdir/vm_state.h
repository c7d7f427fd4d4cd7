/* What a supervisor says of its VM (MSG_STATUS: state), and what a VM is for. The texts are on the wire and in
 * run.json; the code compares numbers. */
#pragma once

#include <stdbool.h>

enum vm_state {
    VM_STATE_STARTING,
    VM_STATE_READY,
    VM_STATE_PAUSED,
    VM_STATE_CUT_OFF, /* its guest broke the protocol */
    VM_STATE_HALTED,
    VM_STATE_STOPPING,
    VM_STATE_FAILED,
    VM_STATES,
};

enum vm_role { VM_ROLE_RUNTIME, VM_ROLE_BUILDER, VM_ROLES };

const char *vm_state_name(enum vm_state s);
/* False where the text is none of them. */
bool vm_state_parse(const char *text, enum vm_state *ret);
const char *vm_role_name(enum vm_role r);
/* What is no builder is a runtime VM. */
enum vm_role vm_role_parse(const char *text);
