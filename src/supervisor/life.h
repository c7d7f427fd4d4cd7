/*
 * The life of a supervisor: from the start of its VM over the ready guest to the end of both, as a table. What it runs
 * meanwhile, booted or restored, is another table (vm.h).
 *
 * Theory of operation. A start that fails ends the VM; the reason is told first. A VM that is to end is asked to in
 * three steps: its guest, for as long as whoever ends it allows, where the guest can be asked; then its VMM, for a
 * second, where a disk that it writes is worth that; then it is killed. When it has ended, what is left of a snapshot
 * may still be written. Of a guest that broke the protocol or has halted nothing can be asked any more, its VM stays
 * to be looked at until it is ended.
 */
#pragma once

#include "wire/vm_state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum life_stage {
    LIFE_NEW,      /* nothing runs */
    LIFE_STARTING, /* the VMM runs */
    LIFE_READY,    /* and the guest can be reached */
    LIFE_PAUSED,   /* by a user */
    LIFE_LOST,     /* it runs, and its guest cannot be reached any more */
    LIFE_STOPPING, /* the guest was asked to end */
    LIFE_QUITTING, /* its VMM was */
    LIFE_KILLING,
    LIFE_ENDED, /* nothing runs, a snapshot may still be written */
    LIFE_GONE,
    LIFE_STAGES,
};

enum life_event {
    LIFE_E_STARTED,
    LIFE_E_READY,
    LIFE_E_FAIL, /* the start */
    LIFE_E_PAUSED,
    LIFE_E_RESUMED,
    LIFE_E_BROKEN, /* the guest does not keep to the protocol */
    LIFE_E_HALTED,
    LIFE_E_STOP,     /* it is to end */
    LIFE_E_STOP_NOW, /* without its guest's own doing */
    LIFE_E_TOO_LONG, /* who was asked to end has not */
    LIFE_E_ENDED,    /* the VM has */
    LIFE_E_SETTLED,  /* nothing is written any more */
    LIFE_EVENTS,
};

struct life_ops {
    /* It is in another stage, or is to be called otherwise. */
    void (*changed)(void *owner);
    /* The start has failed: who waits for it is told. */
    void (*failed)(void *owner);
    /* From now on nothing begins anew, and nothing stands still. */
    void (*ending)(void *owner);
    bool (*can_ask_guest)(void *owner);
    void (*ask_guest)(void *owner);
    /* Whether the VMM writes to something that should be whole. */
    bool (*writes_disk)(void *owner);
    /* -errno where it cannot be asked. */
    int (*ask_vmm)(void *owner);
    void (*kill_vmm)(void *owner);
    /* True where LIFE_E_SETTLED follows later. */
    bool (*ended)(void *owner);
    void (*leave)(void *owner);
};

struct life {
    const struct life_ops *ops; /* what the owner sets */
    void *owner;                /* ... */
    enum life_stage stage;
    enum vm_state said; /* what others are told of it */
    uint64_t grace_ms;
    uint64_t taken; /* which rows of the table: for tests, and for who looks at a supervisor with a debugger */
    uv_timer_t timer;
};

/* The first row whose stage, event and condition are at hand says what follows. What no row names changes nothing. */
struct life_row {
    enum life_stage stage;
    enum life_event event;
    bool (*when)(const struct life *l); /* NULL: always */
    const char *condition;              /* the same in words, or NULL */
    enum life_stage next;
    enum vm_state said;          /* VM_STATES: as before */
    void (*act)(struct life *l); /* NULL: nothing */
};

const struct life_row *life_rows(size_t *ret_n);
const char *life_stage_name(enum life_stage s);
const char *life_event_name(enum life_event e);

void life_init(struct life *l, uv_loop_t *loop);
/* Something came to pass. True where a row of the table was taken. */
bool life_happens(struct life *l, enum life_event e);
/* It is to end, after at most grace_ms of the guest's own doing. */
void life_stop(struct life *l, uint64_t grace_ms);
/* Its guest was ready, and it is not ending. */
bool life_is_up(const struct life *l);
