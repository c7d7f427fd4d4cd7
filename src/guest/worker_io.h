/* A worker's packets to and from the agent, over its socket (SOCK_SEQPACKET: channel byte, payload). */
#pragma once

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

/* One packet to the agent. 0 or -errno; where the kernel has no memory for it, after some seconds. */
int worker_send(int sock, uint8_t channel, const void *p, size_t n);
/* One packet from the agent into b (first byte the channel): 1, 0 at the end of the stream, -errno. */
int worker_recv(int sock, struct buf *b);
/* The message with which a request ends, and the worker's end; r: -errno where it could not be made. */
void worker_last(int sock, const struct buf *b, int r) __attribute__((noreturn));
/* The same with MSG_EXIT. */
void worker_exit(int sock, uint64_t code, const char *problem) __attribute__((noreturn));
/* What a tree is sent by (struct tree_sender): data is the socket. */
int worker_emit(void *sock, uint8_t channel, const void *p, size_t n);
