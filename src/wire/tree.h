/*
 * Files over a stream, with holes and modes: used to stage a flake, to bring artifacts back, and by push and pull.
 *
 * A tree is MSG_ENTRY records (a folder before what is in it), each file followed by CHAN_TREE records with its data,
 * and MSG_END at last. A CHAN_TREE record is u64 offset, u64 checksum of the bytes, then the bytes
 * (at most TREE_MAX_CHUNK); offsets rise, what lies between is a hole. The checksum finds damage in transit (it is no
 * protection against a hostile peer); it is cheap because an emulated guest computes SHA-256 at 23 MB/s.
 */
#pragma once

#include "base/error.h"
#include "wire/msg.h"

#include <stdint.h>

#define TREE_CHUNK_HEADER 16
#define TREE_MAX_CHUNK    (60u * 1024)

/* The chunk checksum: 64 bits, four interleaved multiply-rotate lanes of 8 bytes. */
uint64_t tree_checksum(const void *p, size_t n);
/* What a file of that mode is called. */
const char *tree_kind_name(mode_t mode);

/* ---- Sending (tree_send.c) ---- */

/* Where records go; returns 0 or -errno. May block. */
typedef int (*tree_emit_fn)(void *data, uint8_t channel, const void *p, size_t n);

struct tree_sender {
    tree_emit_fn emit;
    void *data;
    struct buf msg; /* BUF_INIT(FRAME_MAX_PAYLOAD) */
};

/* One entry with its content; fd is the open file, read from offset 0, holes found by SEEK_DATA and by blocks of zeros.
 * A file that changes size meanwhile is -ESTALE. Files that the kernel makes up (/proc) tell no size: they are read
 * until they end, up to 64 MiB. */
int tree_send_file(struct tree_sender *s, const char *path, int fd, struct mvm_error *err) MVM_MUST_CHECK;
/* The same with the file's key (TREE_KEY_SIZE bytes), by which the receiver may keep it; kept: it has, so that no
 * content is sent. */
int tree_send_keyed(struct tree_sender *s, const char *path, int fd, const uint8_t *key, bool kept,
                    struct mvm_error *err) MVM_MUST_CHECK;
int tree_send_memory(struct tree_sender *s, const char *path, mode_t mode, const void *p, size_t n,
                     struct mvm_error *err) MVM_MUST_CHECK;
int tree_send_dir(struct tree_sender *s, const char *path, mode_t mode, struct mvm_error *err) MVM_MUST_CHECK;
int tree_send_symlink(struct tree_sender *s, const char *path, const char *target,
                      struct mvm_error *err) MVM_MUST_CHECK;
/* A file, symlink or whole folder, found at `name` below dirfd, under the path that the tree shall have. Symlinks are
 * not followed. Devices, fifos and sockets are left out of a folder; one that is itself asked for is -EINVAL. */
int tree_send_path(struct tree_sender *s, int dirfd, const char *name, const char *path,
                   struct mvm_error *err) MVM_MUST_CHECK;
int tree_send_end(struct tree_sender *s, struct mvm_error *err) MVM_MUST_CHECK;
void tree_sender_done(struct tree_sender *s);

/* ---- Receiving (tree_receive.c) ---- */

struct tree_limits {
    uint64_t max_bytes; /* of file content, holes excluded */
    uint64_t max_size;  /* of one file, holes included */
    uint64_t max_entries;
};

/* Where files are kept between trees. name is the file's in the open folder parent; data is the receiver's. */
struct tree_keeper {
    /* Makes the file of that key there. 0 or -errno. The receiver's content and file_done are not called for it. */
    int (*take)(void *data, const uint8_t *key, int parent, const char *name);
    /* The complete file at that path of the tree may be kept, now or later. NULL: nothing is kept. */
    void (*keep)(void *data, const uint8_t *key, const char *path);
};

struct tree_receiver {
    int dirfd; /* borrowed: entries are made below it, never outside, following no symlink */
    struct tree_limits limits;
    /* Called for each run of bytes of a file in order, holes as p == NULL; NULL: not wanted. Lets the receiver digest
     * the file as it arrives. */
    void (*content)(void *data, const char *path, const void *p, uint64_t n);
    /* Called when a file is complete. */
    void (*file_done)(void *data, const char *path, uint64_t size);
    void *data;
    const struct tree_keeper *keeper; /* NULL: none, and entries without content are refused */
    const char *top; /* takes the place of the first component of each path; NULL: paths are as they come */
    /* What the receiver asked for. one_top: the first entry is the top one, a path of one component, and every other
     * lies in it, which takes a folder; `expect` is its name on the wire (NULL: any), no_link: it is no symlink. */
    bool one_top, no_link;
    const char *expect;
    bool canonical; /* files are as Nix has them in its store (modes 0444 and 0555, modified at 1), and belong to: */
    uid_t owner;
    bool replace;  /* what is there already is replaced, each as one step, but only by its own kind; devices, fifos
                    * and sockets never are, and nothing is written through a symlink */
    bool complete; /* MSG_END has been seen */
    /* Private. */
    bool failed; /* the tree is refused from here on */
    int fd;
    int parent; /* the folder that was needed last; -1: none */
    char *parent_path;
    uint64_t bytes, entries, size, at;
    struct msg_entry *entry;
    char first[256];   /* the name of the top entry as it came */
    uint64_t top_kind; /* of enum entry_kind, 0 before it came */
    bool nameless;     /* the file that is written gets its name when it is whole */
    char part[32];     /* the name under which a file is written until it is whole; nobody else's */
};

void tree_receiver_init(struct tree_receiver *t, int dirfd, const struct tree_limits *limits);
/* Takes one record (CHAN_TREE, or CHAN_MSG with MSG_ENTRY or MSG_END). -EPROTO with a message for what is out of order,
 * -EBADMSG for a wrong checksum, -EFBIG beyond the limits, other errors from the file system (-EEXIST, unless
 * `replace`: only a folder may be there already). After an error the file it hit is removed and every further record is
 * -EPROTO. Files get their mode's permission bits (0777), folders too, with the owner's always set. */
int tree_receive(struct tree_receiver *t, uint8_t channel, const void *p, size_t n,
                 struct mvm_error *err) MVM_MUST_CHECK;
void tree_receiver_done(struct tree_receiver *t);
