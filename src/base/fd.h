/* File descriptors: whole reads and writes, and closing at the end of a scope. */
#pragma once

#include "base/macros.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes *fd if it is not negative and sets it to -1; errno is kept. */
void fd_closep(int *fd);
#define CLEAN_FD CLEANUP(fd_closep)

/* Writes or reads all n bytes: 0 or -errno (-EPIPE as an error, never a signal on sockets; -ENODATA where the input
 * ends early). They block; writing does so on a descriptor that somebody made non-blocking, too. */
int fd_write_all(int fd, const void *p, size_t n) MVM_MUST_CHECK;
int fd_read_all(int fd, void *p, size_t n) MVM_MUST_CHECK;
int fd_pwrite_all(int fd, const void *p, size_t n, uint64_t offset) MVM_MUST_CHECK;
int fd_pread_all(int fd, void *p, size_t n, uint64_t offset) MVM_MUST_CHECK;

/*
 * One packet of a SOCK_SEQPACKET socket on which packets are never empty: its length, 0 at the end, -errno. The end
 * counts when the kernel says it twice: it looks for a packet first and then whether the peer has closed, and a packet
 * that the peer sends in between, as its last one, is still to come (Linux, net/unix/af_unix.c, unix_dgram_recvmsg).
 */
ssize_t fd_recv_packet(int fd, void *p, size_t n, int flags) MVM_MUST_CHECK;
/* The same by recvmsg(2), with what comes besides. */
struct msghdr;
ssize_t fd_recv_message(int fd, struct msghdr *m, int flags) MVM_MUST_CHECK;

int fd_set_nonblock(int fd, bool on) MVM_MUST_CHECK;
int fd_set_cloexec(int fd, bool on) MVM_MUST_CHECK;

/* Copies the whole of a regular file: by reflink or copy_file_range where the file systems can, keeping holes
 * otherwise. out_fd must be empty. */
int fd_copy_file(int in_fd, int out_fd) MVM_MUST_CHECK;
