/*
 * The VM that a supervisor runs: which VMM, and whether it boots or continues from a snapshot.
 *
 * Theory of operation. A VM whose image has a snapshot that fits continues from it (warm). Otherwise it boots; where
 * nobody else does so already, with its memory in a file, and when the agent says hello, which is before it was told
 * anything, the devices' state is saved, that VMM ends, its files are hashed, and the VM continues from the snapshot
 * like every later one. What that guest does is in no digest. Syncing and promoting follow once the VM is ready.
 * Whatever goes wrong with snapshots, the VM boots without: one that the VMM refuses is removed, one that fails for
 * another reason when that happens to the third VM in a row, and one that cannot be made is only missed.
 *
 * A guest with several processors that ends under software emulation before its agent has spoken is booted once more.
 *
 * A VM with a `state` continues from that, which a user has asked for: it never boots instead.
 */
#pragma once

#include "supervisor/run_state.h"
#include "supervisor/vmm_process.h"
#include "vmdir/boot_snapshot.h"

#include <uv.h>

struct vm_row;

struct vm_ops {
    const struct conn_ops *channel; /* of the guest's connection; its owner is the vm's */
    void (*console)(void *owner, const void *p, size_t n);
    void (*log)(void *owner, const char *text); /* one line for agent.log */
    /* Another VMM runs than before. */
    void (*changed)(void *owner);
    /* The agent is there and wants to be configured. */
    void (*agent)(void *owner, const struct msg_hello *hello);
    /* The state that it was to continue from, and without which it must not run, cannot be restored. */
    void (*lost)(void *owner, const char *why);
    /* The VMM has ended and no other follows. */
    void (*ended)(void *owner, int status);
    /* Nothing of a snapshot is in the making any more; after `ended` only. */
    void (*settled)(void *owner);
};

enum vm_stage {
    VM_NEW,
    VM_PLAIN,     /* boots, or runs as it booted */
    VM_MAKING,    /* boots with its memory in a snapshot's file */
    VM_SAVING,    /* its devices' state is being written */
    VM_MEASURING, /* there is no VMM: the snapshot's files are hashed */
    VM_RESTORING, /* continues from a snapshot, not configured yet */
    VM_RESTORED,  /* runs as it continued */
    VM_ENDED,     /* there is no VMM, and none follows */
    VM_STAGES,
};

enum vm_event {
    VM_E_BOOT, /* the three ways to begin */
    VM_E_MAKE,
    VM_E_RESTORE,
    VM_E_HELLO,      /* the agent is there */
    VM_E_CONFIGURED, /* and was told who it is */
    VM_E_SILENT,     /* nothing was heard for too long */
    VM_E_BROKEN,     /* the agent's connection does not do what it should */
    VM_E_SAVED,
    VM_E_NOT_SAVED,
    VM_E_MEASURED,
    VM_E_NOT_MEASURED,
    VM_E_LOADED,  /* the VMM has read the state */
    VM_E_REFUSED, /* or cannot */
    VM_E_DIED,    /* the VMM has ended */
    VM_EVENTS,
};

/* Whose fault it is that a snapshot was not restored. */
enum vm_blame {
    BLAME_SNAPSHOT, /* the VMM refused it */
    BLAME_UNKNOWN,  /* or the host's, which has too much to do, or another process', which ended the VMM */
};

struct vm {
    uv_loop_t *loop;                 /* what the owner sets */
    const struct runfile *run;       /* ... */
    const struct launcher *launcher; /* ... */
    int dirfd;                       /* ... the VM's folder */
    const struct vm_ops *ops;        /* ... */
    void *owner;                     /* ... */
    struct vmm_process *now;         /* NULL: none */
    struct run_state processors;
    bool warm;                /* it did not boot in this start */
    bool heard, spoke, again; /* its console said something, its agent did, it was booted a second time */
    bool by_host;             /* after `ended`: the VMM was told to end, by a signal or over its control socket */
    char problem[160];        /* after `ended`: why the VMM could not run the guest; "": it could */
    char cold_reason[256];
    enum vm_stage stage;
    const struct vm_row *rows; /* the table */
    size_t n_rows;
    uint64_t taken; /* which rows of the table: for tests, and for who looks at a supervisor with a debugger */
    const struct vmm_ops *backend;
    struct vmm_identity id;
    struct boot_snapshot snapshot;
    /* Of the event that is being acted on. */
    const char *why;
    const struct msg_hello *hello;
    enum vm_blame blame;
    int end_status;
    bool ending; /* what the VMM had said before it ended is being heard */
    struct mvm_error error;
    struct mvm_error work_error;
    bool work_failed, sealing, stopping;
    int maker_fd; /* the process that wrote the snapshot's memory; -1: none */
    uv_timer_t timer;
    uv_work_t work;
    struct steps steps; /* of its start, so far */
    uint64_t since;     /* when the last one ended */
};

/* The state machine: the first row whose stage, event and condition are at hand says what follows. What no row names
 * changes nothing. */
struct vm_row {
    enum vm_stage stage;
    enum vm_event event;
    bool (*when)(const struct vm *v); /* NULL: always */
    const char *condition;            /* the same in words, or NULL */
    enum vm_stage next;
    int (*act)(struct vm *v); /* NULL: nothing. A negative number with v->error: it cannot go on */
};

const struct vm_row *vm_rows(size_t *ret_n);
const char *vm_stage_name(enum vm_stage s);
const char *vm_event_name(enum vm_event e);

/* Starts the VMM. */
int vm_start(struct vm *v, struct mvm_error *err) MVM_MUST_CHECK;
/* The agent's hello came: `agent` follows, at once or after a restore. */
void vm_hello(struct vm *v, const struct msg_hello *hello);
/* The agent is configured: what it was restored from is good. */
void vm_configured(struct vm *v);
/* The guest does not do what it should: true where it is given another try, without snapshot. */
bool vm_retry(struct vm *v, const char *why);
/* From now on nothing begins anew. */
void vm_stop(struct vm *v);
/* After `ended`: true where `settled` will be called, within seconds. */
bool vm_settle(struct vm *v);
/* Before the end of the process. */
void vm_done(struct vm *v);
