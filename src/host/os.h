/*
 * The seam to the operating system, of what only mvmctl needs: each function has one file per system (os_linux.c,
 * os_darwin.c). base/os.h has what guest and host share. Functions return 0, a descriptor or a count, else -errno,
 * unless they say otherwise.
 */
#pragma once

#include "base/os.h"

/* ---- This machine and this program ---- */

/* "x86_64", "aarch64": as Nix and Linux call what the guests of this machine run on. */
const char *os_arch(void);
/* What this program is executed by again, whatever has been put in its place since. */
const char *os_self_exe(void);
/* How this process is listed; at most 15 bytes count. */
void os_set_name(const char *name);
/* The processors that this process may use; 0 where that is not known. */
unsigned os_cores(void);
/* The processor as people call it; "" where that is not known. */
void os_cpu_model(char *out, size_t size);
/* What is another one after each boot of this machine: one line, "" where that is not known. */
void os_boot_id(char *out, size_t size);

/* ---- Files ---- */

/* rename(2): -EEXIST where there is one of that name; or the two change places. */
int os_rename_new(int from_dir, const char *from, int to_dir, const char *to) MVM_MUST_CHECK;
int os_rename_exchange(int from_dir, const char *from, int to_dir, const char *to) MVM_MUST_CHECK;
/* The file gets that size, and the room for it on the disk. */
int os_reserve(int fd, off_t size) MVM_MUST_CHECK;
/* That part of the file becomes a hole. */
int os_punch(int fd, off_t at, off_t n) MVM_MUST_CHECK;
/* flock(2) LOCK_EX, at most until then (clock_now()): -ETIMEDOUT. A signal ends it: -EINTR. */
int os_lock_until(int fd, uint64_t deadline) MVM_MUST_CHECK;
/* A descriptor that is readable when a file comes into the folder or is written to (it may be readable more often),
 * until os_watch_clear(). */
int os_watch_folder(int dirfd) MVM_MUST_CHECK;
void os_watch_clear(int fd);

/* ---- Sockets: no program inherits them ---- */

/* socket(2), of the protocol that is usual for the type. */
int os_socket(int family, int type) MVM_MUST_CHECK;
/* Pairs are of Unix' family. */
int os_stream_pair(int ret[2]) MVM_MUST_CHECK;
/* Each send is received whole; the other end's close is an end or an error. */
int os_packet_pair(int ret[2]) MVM_MUST_CHECK;
/* Each send is received whole or lost; nothing tells one end that the other has closed. */
int os_datagram_pair(int ret[2]) MVM_MUST_CHECK;
/* The address of a Unix socket with that name in the folder, for this process and those that have the folder under the
 * same number. Where the system has none but by the folder's path, -ENAMETOOLONG where that is too long. */
struct sockaddr_un;
int os_socket_address(int dirfd, const char *name, struct sockaddr_un *ret) MVM_MUST_CHECK;
/* The process at the other end when it connected; 0 where that is not known. */
pid_t os_peer(int sock);
/* What a process has used: processor time, and its memory that is not swapped out. -ESRCH where there is none. */
struct os_usage {
    uint64_t cpu_ns, resident_bytes;
};
int os_process_usage(pid_t pid, struct os_usage *ret) MVM_MUST_CHECK;

/* ---- Time ---- */

/* Calls handler once, as a signal's, ms after os_alarm(), which is async-signal-safe. Once in a process. */
int os_alarm_prepare(void (*handler)(int)) MVM_MUST_CHECK;
void os_alarm(unsigned ms);
/* A descriptor that is readable when the wall clock was set, or the machine has slept; os_clock_jumped() says whether
 * it was that, and waits on: an error where it cannot. */
int os_watch_clock(void) MVM_MUST_CHECK;
int os_clock_jumped(int fd, bool *ret) MVM_MUST_CHECK;
