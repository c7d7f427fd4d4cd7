/* What the supervisor's files share, each of which uses the ones before it: control.c (what all ask of it), starter.c
 * (whom it tells), guest.c (what the agent says), requests.c (what it answers itself), ending.c, connections.c,
 * supervisor.c (the start). */
#pragma once

#include "supervisor/clients.h"
#include "supervisor/conn.h"
#include "supervisor/guard.h"
#include "supervisor/halt.h"
#include "supervisor/hostclock.h"
#include "supervisor/idle_pause.h"
#include "supervisor/lastwords.h"
#include "supervisor/life.h"
#include "supervisor/live_save.h"
#include "supervisor/network.h"
#include "supervisor/publish.h"
#include "supervisor/router.h"
#include "supervisor/vm.h"
#include "vmdir/logfile.h"
#include "vmdir/runfile.h"

#include <uv.h>

#define DEFAULT_GRACE_MS 5000
#define IDLE_GRACE_MS    20000 /* nobody waits, and a builder has much to write; a guest that ends by itself, too */

/* Clients at a time: a descriptor each. Those that want something of the guest leave some places to those that ask the
 * supervisor. */
#define MAX_CLIENTS      1000
#define RESERVED_CLIENTS 40

struct supervisor {
    uv_loop_t loop;
    struct runfile run;
    int dirfd;
    struct life life;
    struct msg_status status;
    bool asked_to_stop; /* by a client or signal: ending is no failure */
    bool cut_off;       /* the guest broke the protocol; status.problem says how */
    const char *ending; /* what the guest announced: "the guest powered off"; NULL: nothing */
    bool vanished;      /* it was up and ended without a word: nobody asked for it and the guest announced nothing */
    struct lastwords console;
    char gone[256]; /* of an end that nobody announced: supervisor_why_gone() */

    struct launcher launcher;
    struct jail_report jail; /* what confines this process */
    struct vm vm;
    struct network network;
    uv_pipe_t listener, starter;
    uv_timer_t timer, idle, channel_lost;
    uv_signal_t signals[3];
    bool starter_gone;
    uint64_t configured_at;
    bool told; /* the starter knows: the VM is ready, has failed, or its services have */

    struct clients clients;
    unsigned max_clients;
    struct guard guard;
    struct halt halt;
    struct hostclock hostclock;
    uint64_t used_at; /* when the last client went that had asked the guest for something; clock_now() */
    struct router *router;
    struct publish *publish;
    bool connects; /* the agent knows MSG_CONNECT */
    struct logfile console_log, agent_log;

    struct idle_pause idle_pause;
    struct msg_hello hello; /* the agent's last one */
    struct live_save live_save;
    struct {
        uint8_t type;      /* the request that is being served: MSG_SAVE, MSG_PAUSE, MSG_RESUME; 0: none */
        struct conn *conn; /* who asked, NULL where it has left */
        uint32_t stream;
    } serving;
};

/* Confines this process for the rest of its life (confine.c). */
int supervisor_confine(struct supervisor *s, struct mvm_error *err) MVM_MUST_CHECK;
/* ---- control.c ---- */

/* ns since the command that started the VM was given. */
uint64_t supervisor_since_start(const struct supervisor *s);
/* Brings status.state up to date. */
void supervisor_say_state(struct supervisor *s);
/* The guest's connection, NULL where it is cut off. */
struct conn *supervisor_guest(struct supervisor *s);
/* What clients are told whose streams end with the guest. */
const char *supervisor_why_gone(struct supervisor *s);
/* Ends the VM, after at most grace_ms of the guest's own doing. asked: that is no failure. */
void supervisor_stop(struct supervisor *s, uint64_t grace_ms, bool asked);
/* Whenever clients come or go, or the time after which an idle VM stops changes. */
void supervisor_watch_idle(struct supervisor *s);

/* ---- starter.c ---- */

/* A start that fails: says why, and ends the VM. Nothing where the VM has been ready. */
void starter_fail(struct supervisor *s, const char *fmt, ...) MVM_PRINTF(2, 3);
/* Sends it the status, once. */
void starter_tell(struct supervisor *s);
void starter_say_ready(struct supervisor *s);
/* While the starter waits for services: they are ready, and stay so for as long as it wishes, or have failed. */
void starter_judge_services(struct supervisor *s);
/* The time to get ready is over; the starter's socket has ended. */
void starter_timeout(uv_timer_t *t);
void starter_event(uv_stream_t *st, ssize_t n, const uv_buf_t *b);

/* ---- guest.c ---- */

/* See struct router_ops: guest_msg; struct vm_ops: agent. */
int guest_msg(void *data, const void *p, size_t n);
void guest_agent(void *owner, const struct msg_hello *m);

/* ---- connections.c ---- */

extern const struct router_ops supervisor_router_ops;
extern const struct conn_ops supervisor_conn_ops;
void connections_init(struct supervisor *s);
/* The control socket, in the VM's folder. */
int connections_listen(struct supervisor *s) MVM_MUST_CHECK;

/* ---- ending.c ---- */

/* See struct vm_ops: ended, settled. */
void ending_vm_ended(void *owner, int status);
void ending_settled(void *owner);
/* At the end of the process. */
void ending_remove_traces(struct supervisor *s);

/* ---- requests.c ---- */

int requests_init(struct supervisor *s) MVM_MUST_CHECK;
/* See struct router_ops: local. */
bool requests_request(void *data, void *handle, uint32_t stream, const void *p, size_t n);
/* A client has left; the VM has ended. */
void requests_gone(struct supervisor *s, const struct conn *c);
void requests_ended(struct supervisor *s);
