/* The messages of a builder: jobs and its store. They are encoded and decoded as all are (msg.h). */
#pragma once

#include "wire/msg.h"

/*
 * MSG_BUILD opens a job. The client then sends a tree on the same stream (MSG_ENTRY, CHAN_TREE, MSG_END) unless remote
 * is set: the flake below BUILD_SOURCE, and each of `inputs` below BUILD_INPUT and its index. The guest answers with
 * MSG_PHASE and CHAN_LOG records (Nix's internal-json lines, whole), then the artifact set as a tree (MSG_ENTRY
 * "vmlinux", "rootfs.ext4", "initrd", "cmdline.txt", "image.json", and "flake.lock" where Nix changed it), MSG_END, and
 * last MSG_RESULT. A failed job sends MSG_RESULT alone.
 */
#define BUILD_SOURCE       "src"
#define BUILD_INPUT        "in"
#define BUILD_LOCK         "flake.lock" /* what Nix goes by instead of the flake's own */
#define MSG_BUILD_MAX_JOBS 10           /* the field that the agent itself reads */
/* An artifact of builder images only, sent where `manifest` asks for it. */
#define BUILD_MANIFEST "manifest.json"

struct msg_build {
    char *remote; /* a flake reference for Nix; NULL: the staged tree */
    char *subdir; /* the flake's folder within the staged tree, "" for its root */
    char *attr;   /* "packages.x86_64-linux.default" */
    char *system;
    bool offline;
    bool manifest;              /* the output is a builder image: send its manifest.json too */
    struct msg_strings env;     /* variables for Nix: proxies, and NIX_CONFIG with what must not be seen (build.c) */
    struct msg_strings options; /* further nix.conf settings "name=value" from config */
    struct msg_strings inputs;  /* absolute paths where Nix shall find the local folders that came along */
    uint64_t max_jobs;          /* it waits while this many jobs run; 0: the guest's default */
    struct msg_strings known;   /* SHA-256, in hex, of files that the host has: they come back without their content */
    uint64_t last_modified;     /* of the staged tree, seconds since 1970: what Nix says of it; 0: not known */
    char *rev;                  /* of its commit, 40 hex digits; NULL: none */
    uint64_t rev_count;         /* commits up to it; 0: not known */
    char *store_name;           /* what the staged tree is called in the store; NULL: Nix is to copy it there */
    char *nar_hash, *nar_hex;   /* with store_name: the SHA-256 of its NAR, as "sha256-" and base64, and in hex */
    uint64_t nar_size;          /* and its size, bytes */
};
int msg_build_encode(struct buf *b, const struct msg_build *m) MVM_MUST_CHECK;
int msg_build_decode(struct msg_build *m, const void *p, size_t n) MVM_MUST_CHECK;
void msg_build_done(struct msg_build *m);

/* MSG_OFFER: keys one behind the other. MSG_WANT: for each of them a byte, 1 where its content is wanted. */
#define OFFER_MAX 1024
struct msg_offer {
    uint8_t keys[OFFER_MAX * TREE_KEY_SIZE];
    size_t len;
};
int msg_offer_encode(struct buf *b, const struct msg_offer *m) MVM_MUST_CHECK;
int msg_offer_decode(struct msg_offer *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_want {
    uint8_t wanted[OFFER_MAX];
    size_t len;
};
int msg_want_encode(struct buf *b, const struct msg_want *m) MVM_MUST_CHECK;
int msg_want_decode(struct msg_want *m, const void *p, size_t n) MVM_MUST_CHECK;

/* MSG_PHASE: name as in progress.h ("queue", "stage", "eval", "build", "extract"). */
struct msg_phase {
    char name[32];
    uint64_t before; /* queue: so many jobs have to end first */
};
int msg_phase_encode(struct buf *b, const struct msg_phase *m) MVM_MUST_CHECK;
int msg_phase_decode(struct msg_phase *m, const void *p, size_t n) MVM_MUST_CHECK;

struct msg_result {
    bool ok;
    uint64_t exit_code; /* of what failed */
    char phase[32];     /* mvm_phase_name() of the failure, "" on success */
    char problem[1024]; /* in words */
    char store_path[512];
    char *available; /* JSON list of attribute names, where the attribute was not found; NULL otherwise */
    uint64_t eval_ns, build_ns, stage_ns, extract_ns;
    char kind[32]; /* which of the phase's failures, where the guest knows: "out-of-memory" */
};
int msg_result_encode(struct buf *b, const struct msg_result *m) MVM_MUST_CHECK;
int msg_result_decode(struct msg_result *m, const void *p, size_t n) MVM_MUST_CHECK;
void msg_result_done(struct msg_result *m);

/*
 * MSG_STORE: of all that was built, only `live` outputs stay protected. Where the store's file system uses more than
 * `above` bytes, what is not needed goes until it uses at most `target`: first what no live output was built from or
 * refers to, then what they were built from, then live outputs, oldest first. Blocks that became free are discarded.
 * Running builds keep what they use.
 */
struct msg_store {
    struct msg_strings live; /* store paths, the newest build first */
    uint64_t above, target;  /* bytes; above 0: collect nothing */
    bool survey;             /* find out `reclaimable`, which takes a while, unless use has changed little ... */
    uint64_t surveyed;       /* ... since this many bytes were used */
};
int msg_store_encode(struct buf *b, const struct msg_store *m) MVM_MUST_CHECK;
int msg_store_decode(struct msg_store *m, const void *p, size_t n) MVM_MUST_CHECK;
void msg_store_done(struct msg_store *m);

struct msg_store_reply {
    uint64_t size, used; /* bytes of the file system */
    uint64_t freed;      /* by this request */
    bool surveyed;
    uint64_t reclaimable; /* where surveyed: bytes of what no live output was built from or refers to */
    char problem[512];    /* what went wrong, "" for nothing */
};
int msg_store_reply_encode(struct buf *b, const struct msg_store_reply *m) MVM_MUST_CHECK;
int msg_store_reply_decode(struct msg_store_reply *m, const void *p, size_t n) MVM_MUST_CHECK;
