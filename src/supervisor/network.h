/*
 * The VM's network process (net/process.h), as its supervisor sees it: started when the guest's card sends its first
 * frame that asks for something, so that no VM waits for it (of a member of a network at once, because others may send
 * the first frame), heard, ended with the VM, and started again with the next frame where it has died. The guest's card
 * stays what it is meanwhile.
 */
#pragma once

#include "supervisor/launcher.h"

#include <uv.h>

struct network_ops {
    /* One line for the VM's log. */
    void (*log)(void *owner, const char *text);
    /* What it has counted so far: names and numbers, in turn, with spaces between them. */
    void (*counts)(void *owner, const char *text);
};

struct network {
    struct launcher *launcher;
    const struct network_ops *ops;
    void *owner;
    struct process process; /* none while it is not there */
    struct jail_report jail;
    uv_loop_t *loop;
    uv_timer_t again;
    uv_poll_t frames, started;
    uv_pipe_t report;
    uv_poll_t exit;
    int report_fd; /* of one that is being started */
    uint64_t started_at;
    uint64_t wait_ms;   /* before it is started again */
    unsigned announced; /* frames that asked for nothing */
    unsigned n_open;    /* handles of a process that libuv has not closed yet */
    bool at_once;       /* no frame of the guest's is waited for */
    bool lost;          /* that the guest has no network was said */
    bool stopping;
    char line[512]; /* of its report, as far as it has come */
    size_t line_len;
};

/* -errno. */
int network_init(struct network *n, uv_loop_t *loop, struct launcher *launcher, bool at_once,
                 const struct network_ops *ops, void *owner) MVM_MUST_CHECK;
/* Ends it for good: the loop does not run any more. */
void network_stop(struct network *n);
