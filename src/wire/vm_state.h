/* What messages and run.json say of a VM in words: what it is for, how it started, and how it, its services and its
 * store are. The code compares numbers. Where a text is none of the names the number of names is returned. */
#pragma once

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

enum vm_start {
    VM_START_COLD, /* it booted */
    VM_START_WARM, /* it was restored from a snapshot */
    VM_STARTS,
};

/* Of all services together: starting until each of them is ready or has failed for good. */
enum services_state { SERVICES_STARTING, SERVICES_READY, SERVICES_FAILED, SERVICES_STATES };

/* What became of the builder's store disk. */
enum store_health {
    STORE_OK,
    STORE_REPAIRED, /* the check changed something */
    STORE_BROKEN,   /* beyond repair: only a new one helps */
    STORE_HEALTHS,
};

const char *vm_state_name(enum vm_state s);
enum vm_state vm_state_parse(const char *text);
const char *vm_role_name(enum vm_role r);
/* What is no builder is a runtime VM. */
enum vm_role vm_role_parse(const char *text);
const char *vm_start_name(enum vm_start s);
enum vm_start vm_start_parse(const char *text);
const char *services_state_name(enum services_state s);
enum services_state services_state_parse(const char *text);
const char *store_health_name(enum store_health h);
enum store_health store_health_parse(const char *text);
