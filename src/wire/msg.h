/*
 * Messages: typed records with numbered fields. The encoding is one byte of message type, one byte of message
 * version (1), then fields; each field is a one-byte number, a u32 length and that many bytes. Integers are 8 bytes
 * little-endian; strings are UTF-8 or plain bytes without NUL; a list repeats its field. Unknown fields are skipped
 * (a newer peer may send them); a field that is too short, a string with NUL or a text that ends early is -EPROTO.
 * Both sides read with the same bounds-checked reader. docs/protocol.md lists every message and field.
 */
#pragma once

#include "base/buf.h"
#include "base/steps.h"
#include "wire/vm_state.h"

#include <stdbool.h>
#include <stdint.h>

#define MVM_PROTOCOL_VERSION 1

enum msg_type {
    /* Stream 0, guest to host. */
    MSG_HELLO = 1,      /* the agent can serve */
    MSG_LOG = 2,        /* a line for agent.log */
    MSG_CONFIGURED = 3, /* what MSG_CONFIGURE asked for is done */
    MSG_SERVICE = 4,    /* a service of the image started, ended or failed */
    MSG_DRAINED = 5,    /* the answer to MSG_DRAIN; nothing follows until MSG_UNDRAIN or MSG_CONFIGURE */
    MSG_QUIESCED = 6,   /* the answer to MSG_QUIESCE */
    MSG_ENDING = 7,     /* the guest powers off or restarts; an end without it is a panic or a forced reset */
    MSG_SERVICES = 8,   /* the state of all services together, whenever it changes */

    /* Stream 0, host to guest. */
    MSG_CONFIGURE = 16, /* hostname, time, random seed, network; starts the image's services */
    MSG_POWEROFF = 17,  /* sync, unmount, power off */
    MSG_CLOCK = 18,     /* set the clock */
    MSG_SEED = 19,      /* feed the random generator */
    MSG_DRAIN = 20,     /* the guest is about to be copied: say MSG_DRAINED, then nothing more */
    MSG_UNDRAIN = 21,   /* that is over */
    MSG_QUIESCE = 22, /* say MSG_QUIESCED once nothing runs in the guest and all is on its disks; a stream revokes it */

    /* First message of a stream (FRAME_OPEN). */
    MSG_EXEC = 32,    /* run a program */
    MSG_PUSH = 33,    /* receive a tree (tree.h) below a folder of the guest */
    MSG_PULL = 34,    /* send a file or a tree */
    MSG_BUILD = 35,   /* evaluate and build a flake (builder role only) */
    MSG_FLOOD = 36,   /* send or swallow bytes: the throughput bench */
    MSG_CONNECT = 37, /* connect to a port in the guest: bytes, or datagrams, both ways */
    MSG_STORE = 38,   /* keep what is needed of the builder's store, make room in it, account for it */
    MSG_FREEZE = 39,  /* builder: the store's file system stands still, whole on its disk, while the stream is open */
    MSG_STATUS = 40,  /* answered by the supervisor: MSG_STATUS_REPLY */
    MSG_STOP = 41,    /* answered by the supervisor: stop the VM; the stream closes when it is gone */
    MSG_IDLE = 42,    /* answered by the supervisor: when to stop by itself; then MSG_EXIT */
    MSG_SAVE = 43,    /* answered by the supervisor: write the running guest to a file; then MSG_SAVED */
    MSG_PAUSE = 44,   /* answered by the supervisor: the processors stand still; then MSG_EXIT */
    MSG_RESUME = 45,  /* answered by the supervisor: they go on; then MSG_EXIT */
    MSG_LONG = 46,    /* a request that does not fit a frame: it follows in MSG_PARTs */
    MSG_PORTS = 47,   /* answered by the supervisor: publish ports, take them back; then MSG_EXIT */

    /* Within a stream. */
    MSG_SIGNAL = 48,  /* to the program of MSG_EXEC */
    MSG_WINSIZE = 49, /* its terminal's size */
    MSG_EXIT = 50,    /* the program or request has ended; the last record of a stream */
    MSG_ENTRY = 51,   /* tree.h: a file, folder or symlink follows */
    MSG_END = 52,     /* tree.h: the tree is complete */
    MSG_PHASE = 53,   /* a build job entered a phase */
    MSG_RESULT = 54,  /* a build job's outcome */
    MSG_STATUS_REPLY = 55,
    MSG_EOF = 56, /* no more input for the program of MSG_EXEC; signals may still follow. No fields. */
    MSG_STORE_REPLY = 58,
    MSG_OFFER = 59, /* a build job's files by their keys, before its tree */
    MSG_WANT = 60,  /* the answer: which of them shall come */
    MSG_SAVED = 61, /* the answer to MSG_SAVE */
    MSG_PART = 62,  /* some bytes of the request that MSG_LONG announced */
};

/* ---- Reading and writing fields ---- */

struct msg_reader {
    uint8_t type;
    uint8_t version;
    const uint8_t *at, *end;
    /* The current field. */
    uint8_t field;
    const uint8_t *data;
    uint32_t len;
    int error; /* 0 or -EPROTO; sticky */
};

/* Starts reading; -EPROTO where the two leading bytes are missing or the version is 0. */
int msg_open(struct msg_reader *r, const void *data, size_t len) MVM_MUST_CHECK;
/* Moves to the next field: true, or false at the end or after an error (see r->error). */
bool msg_next(struct msg_reader *r);
/* The current field as an integer; sets r->error unless it is exactly 8 bytes. */
uint64_t msg_u64(struct msg_reader *r);

/* Replaces b's content by the start of a message. */
int msg_begin(struct buf *b, uint8_t type) MVM_MUST_CHECK;
int msg_put_u64(struct buf *b, uint8_t field, uint64_t v) MVM_MUST_CHECK;
int msg_put_bytes(struct buf *b, uint8_t field, const void *p, size_t n) MVM_MUST_CHECK;
/* A NULL string puts nothing. */
int msg_put_string(struct buf *b, uint8_t field, const char *s) MVM_MUST_CHECK;

/* ---- The messages ----
 * For each: _encode replaces b's content; _decode fills a zeroed struct from a payload (checking the type) and
 * returns 0, -EPROTO or -ENOMEM; _done frees what a decoded struct owns (strings and lists). Structs given to _encode
 * may borrow. Lists have at most MSG_MAX_ARGS members, beyond which encoding is -E2BIG and decoding is -EPROTO.
 */

#define MSG_MAX_ARGS 262144 /* empty ones, as many as Linux takes for a program (execve(2), MAX_ARG_STRINGS: 2 MB) */

struct msg_strings {
    char **v; /* NULL-terminated where n > 0 */
    size_t n;
};
void msg_strings_done(struct msg_strings *s);
/* Takes text, which may be NULL (-ENOMEM); -E2BIG beyond MSG_MAX_ARGS. */
int msg_strings_add(struct msg_strings *s, char *text);

struct msg_hello {
    uint64_t protocol; /* MVM_PROTOCOL_VERSION */
    char role[16];     /* enum vm_role */
    char kernel[80];   /* uname release */
    uint64_t boot_ns;  /* guest's CLOCK_BOOTTIME when init started */
    uint64_t ready_ns; /* ... when it could serve */
};
int msg_hello_encode(struct buf *b, const struct msg_hello *m) MVM_MUST_CHECK;
int msg_hello_decode(struct msg_hello *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_log {
    char text[1024];
};
int msg_log_encode(struct buf *b, const struct msg_log *m) MVM_MUST_CHECK;
int msg_log_decode(struct msg_log *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_service {
    char name[64];
    char state[16]; /* "started", "exited", "failed" */
    uint64_t code;  /* exit status as a shell reports it */
};
int msg_service_encode(struct buf *b, const struct msg_service *m) MVM_MUST_CHECK;
int msg_service_decode(struct msg_service *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_services {
    char state[16];    /* enum services_state */
    char problem[256]; /* unless ready: what is waited for, or what failed */
};
int msg_services_encode(struct buf *b, const struct msg_services *m) MVM_MUST_CHECK;
int msg_services_decode(struct msg_services *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_configure {
    char hostname[65];
    uint64_t wall_ns; /* CLOCK_REALTIME; 0: leave */
    uint8_t seed[64]; /* for the random generator */
    size_t seed_len;
    char address[44]; /* of the guest, with the prefix's length; "" for no network */
    char gateway[40];
    char dns[40];
    bool store_check;    /* builder: the store's disk was not closed in order, check it before use */
    char machine_id[33]; /* 32 hex digits for /etc/machine-id, "": leave it */
    bool copied;         /* the guest is a copy of one that was configured and held: what it served is gone */
    uint64_t window;     /* what streams begin with towards the host; 0: MUX_WINDOW */
    uint64_t mtu;        /* of the network card; 0: leave it */
    char mac[18];        /* of the network card, "52:54:00:12:34:56"; "": leave it */
    char address6[44];   /* of the guest, besides what it makes itself, with the prefix's length; "" for none */
    bool unlinked;       /* the network card has no link, and gets no address */
};
int msg_configure_encode(struct buf *b, const struct msg_configure *m) MVM_MUST_CHECK;
int msg_configure_decode(struct msg_configure *m, const void *p, size_t n) MVM_MUST_CHECK;

/* MSG_CONFIGURED: the outcome in words, "" where all went well. */
struct msg_configured {
    char problem[256];
    char address[44]; /* what the first network card got, "" for none */
    char store[16];   /* builder: enum store_health, "" where its disk is not there */
    uint64_t window;  /* as in MSG_CONFIGURE, from an agent that keeps to it; 0: it does not know of it */
    bool services;    /* MSG_SERVICES follows ... */
    bool slow;        /* ... and is worth waiting for: a service has `ready`, or guest.conf cannot be read */
    bool connects;    /* the agent knows MSG_CONNECT */
    bool moves;       /* it has set the card's MAC and addresses, also where it had others before */
};
int msg_configured_encode(struct buf *b, const struct msg_configured *m) MVM_MUST_CHECK;
int msg_configured_decode(struct msg_configured *m, const void *p, size_t n) MVM_MUST_CHECK;

enum ending { ENDING_OFF = 0, ENDING_RESTART = 1 };

struct msg_ending {
    uint64_t how; /* enum ending */
};
int msg_ending_encode(struct buf *b, const struct msg_ending *m) MVM_MUST_CHECK;
int msg_ending_decode(struct msg_ending *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_clock {
    uint64_t wall_ns;
};
int msg_clock_encode(struct buf *b, const struct msg_clock *m) MVM_MUST_CHECK;
int msg_clock_decode(struct msg_clock *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_seed {
    uint8_t seed[64];
    size_t len;
};
int msg_seed_encode(struct buf *b, const struct msg_seed *m) MVM_MUST_CHECK;
int msg_seed_decode(struct msg_seed *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_exec {
    struct msg_strings argv; /* at least one */
    struct msg_strings env;  /* "NAME=value"; on top of the image's environment */
    char *cwd;               /* NULL: the user's home, or / */
    char *user;              /* name or number; NULL: root */
    bool terminal;           /* a pty as stdin, stdout and stderr */
    uint64_t rows, cols;
};
int msg_exec_encode(struct buf *b, const struct msg_exec *m) MVM_MUST_CHECK;
int msg_exec_decode(struct msg_exec *m, const void *p, size_t n) MVM_MUST_CHECK;
void msg_exec_done(struct msg_exec *m);

/* MSG_LONG, then MSG_PARTs with so many bytes in all, which are the request. */
#define MSG_LONG_MAX (4u << 20)
#define MSG_PART_MAX (60u * 1024)
struct msg_long {
    uint64_t size;
};
int msg_long_encode(struct buf *b, const struct msg_long *m) MVM_MUST_CHECK;
int msg_long_decode(struct msg_long *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_part {
    uint8_t bytes[MSG_PART_MAX];
    size_t len;
};
int msg_part_encode(struct buf *b, const struct msg_part *m) MVM_MUST_CHECK;
int msg_part_decode(struct msg_part *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_signal {
    uint64_t number; /* Linux signal number */
};
int msg_signal_encode(struct buf *b, const struct msg_signal *m) MVM_MUST_CHECK;
int msg_signal_decode(struct msg_signal *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_winsize {
    uint64_t rows, cols;
};
int msg_winsize_encode(struct buf *b, const struct msg_winsize *m) MVM_MUST_CHECK;
int msg_winsize_decode(struct msg_winsize *m, const void *p, size_t n) MVM_MUST_CHECK;

/* MSG_EXIT ends exec, push, pull, flood streams: code 0 is success. For exec: as a shell reports it (127 not found,
 * 126 not executable, 128+n killed by signal n). problem says why the request itself failed, "" otherwise. */
struct msg_exit {
    uint64_t code;
    char problem[512];
};
int msg_exit_encode(struct buf *b, const struct msg_exit *m) MVM_MUST_CHECK;
int msg_exit_decode(struct msg_exit *m, const void *p, size_t n) MVM_MUST_CHECK;

/* MSG_PUSH and MSG_PULL. push: entries are made below path, which is made if missing. pull: path is a file or a
 * folder; with follow, symlinks at path itself are followed. */
struct msg_transfer {
    char *path;
    bool follow;
};
int msg_transfer_encode(struct buf *b, uint8_t type, const struct msg_transfer *m) MVM_MUST_CHECK;
int msg_transfer_decode(struct msg_transfer *m, uint8_t type, const void *p, size_t n) MVM_MUST_CHECK;
void msg_transfer_done(struct msg_transfer *m);

/* MSG_FLOOD: the guest sends `send` bytes of CHAN_OUT and swallows what comes until CLOSE, then MSG_EXIT. */
struct msg_flood {
    uint64_t send;
};
int msg_flood_encode(struct buf *b, const struct msg_flood *m) MVM_MUST_CHECK;
int msg_flood_decode(struct msg_flood *m, const void *p, size_t n) MVM_MUST_CHECK;

enum entry_kind { ENTRY_FILE = 1, ENTRY_DIR = 2, ENTRY_SYMLINK = 3 };
#define ENTRY_MAX_PATH 4096
#define TREE_KEY_SIZE  33 /* SHA-256 of the content, and 1 where it may be executed, else 0 */

struct msg_entry {
    uint64_t kind;               /* enum entry_kind */
    char path[ENTRY_MAX_PATH];   /* relative, path_is_safe_relative() */
    uint64_t mode;               /* permission bits */
    uint64_t size;               /* files: bytes, holes included */
    char target[ENTRY_MAX_PATH]; /* symlinks */
    uint8_t key[TREE_KEY_SIZE];  /* files that may be kept or taken from what was kept; key_len 0: not this one */
    size_t key_len;
    bool kept; /* the receiver has it: no content follows */
};
int msg_entry_encode(struct buf *b, const struct msg_entry *m) MVM_MUST_CHECK;
int msg_entry_decode(struct msg_entry *m, const void *p, size_t n) MVM_MUST_CHECK;

/* MSG_IDLE: the VM stops by itself when it has had no client for so long; 0: never. Once it is IDLE_AT_ONCE it stays
 * so: the guest has something in its memory that is to go with its last client. */
#define IDLE_AT_ONCE 1
struct msg_idle {
    uint64_t idle_ms;
};
int msg_idle_encode(struct buf *b, const struct msg_idle *m) MVM_MUST_CHECK;
int msg_idle_decode(struct msg_idle *m, const void *p, size_t n) MVM_MUST_CHECK;

/* MSG_SAVE: into the file `state` of a folder that the client has made in MVM_HOME/snapshots. */
struct msg_save {
    char folder[64]; /* its name, which begins with a dot: it is hidden */
};
int msg_save_encode(struct buf *b, const struct msg_save *m) MVM_MUST_CHECK;
int msg_save_decode(struct msg_save *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_saved {
    char problem[512];   /* why not, "" where it is written */
    uint64_t protocol;   /* of the agent that is in it */
    char kernel[80];     /* as in MSG_HELLO */
    uint64_t stopped_ns; /* how long the processors stood still */
    bool other_folder;   /* refused, because the supervisor may not write to where the client has made the file */
};
int msg_saved_encode(struct buf *b, const struct msg_saved *m) MVM_MUST_CHECK;
int msg_saved_decode(struct msg_saved *m, const void *p, size_t n) MVM_MUST_CHECK;

/*
 * MSG_CONNECT: the agent connects to that port on the guest's loopback, else on its card's address, and resets the
 * stream where nothing takes the connection. TCP: CHAN_OUT is the connection's bytes, CLOSE its half close, RESET its
 * reset. UDP: each record is a datagram.
 */
struct msg_connect {
    uint64_t port;
    uint64_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
    uint64_t window;   /* what both directions begin with (mux_set_window); 0: as other streams */
};
int msg_connect_encode(struct buf *b, const struct msg_connect *m) MVM_MUST_CHECK;
int msg_connect_decode(struct msg_connect *m, const void *p, size_t n) MVM_MUST_CHECK;

/* MSG_PORTS: texts as docs/protocol.md has them. With the frame come the sockets to publish on, in the
 * order of `publish`, by SCM_RIGHTS (unix(7)): a supervisor makes none. All is done, or nothing. */
#define PORTS_MAX      64 /* of a VM */
#define PORTS_MAX_TEXT 10240
struct msg_ports {
    struct msg_strings publish, unpublish;
    bool tied; /* what is published is taken back when this client leaves */
};
int msg_ports_encode(struct buf *b, const struct msg_ports *m) MVM_MUST_CHECK;
int msg_ports_decode(struct msg_ports *m, const void *p, size_t n) MVM_MUST_CHECK;
void msg_ports_done(struct msg_ports *m);

/* The supervisor's account of its VM; the same facts as run.json plus the live state. */
struct msg_status {
    char state[16]; /* "starting", "ready", "paused", "stopping", "cut off" (the guest broke the protocol), "halted",
                       "failed" */
    char problem[1024]; /* where failed or cut off: why; where ready: what it lacks */
    char hint[512];
    char detail[4096];
    uint64_t vmm_pid;
    uint64_t ready_ns; /* from the supervisor's start to the configured agent */
    uint64_t spawn_ns; /* ... to the VMM's exec */
    uint64_t hello_ns; /* ... to the hello frame */
    uint64_t guest_boot_ns, guest_ready_ns;
    char address[44];
    char store[16];             /* as in MSG_CONFIGURED */
    char mode[16];              /* enum vm_start */
    char cold_reason[256];      /* why it was booted */
    uint64_t clients;           /* connections to the control socket, the one that asks included */
    uint64_t idle_ms;           /* as in MSG_IDLE */
    char steps[STEPS_MAX_TEXT]; /* of its start, as steps_format() has them */
    bool confined;              /* its VMM is, at least by seccomp ... */
    char confinement[256];      /* ... as jail_report_format() has it */
    char own_confinement[256];  /* the supervisor's */
    char limits[128];           /* its VMM's, "none: " and why */
    char services[16];          /* as in MSG_SERVICES, "" where the image has none ... */
    char services_problem[256];
    char ports[PORTS_MAX_TEXT]; /* what is published, one a line, as in MSG_PORTS */
    char network[512];          /* what its network process has counted: names and numbers in turn; "" for nothing */
    uint64_t port_connections, ports_connected; /* through published ports: open now, since the start */
};
int msg_status_encode(struct buf *b, const struct msg_status *m) MVM_MUST_CHECK;
int msg_status_decode(struct msg_status *m, const void *p, size_t n) MVM_MUST_CHECK;
