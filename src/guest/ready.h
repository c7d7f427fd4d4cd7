/* When a service is ready, where its `ready` in guest.conf says so: what it asks the guest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define READY_NOTIFY_DIR "/run/mvm/notify"

/* True where one of the texts (/proc/net/tcp, /proc/net/tcp6; kernel: Documentation/networking/proc_net_tcp.rst) has a
 * socket that listens on that port. */
bool ready_listens(const char *tcp, const char *tcp6, unsigned port);
/* The same of this guest, now. */
bool ready_port(unsigned port);

/* A socket of the service's name in a folder, for its messages (sd_notify(3)), or -errno. */
int ready_notify_open(const char *folder, const char *service);
/* Reads what has come: true where one of them says READY=1. */
bool ready_notify_read(int fd);
/* True where a message of n bytes has that line. */
bool ready_notify_says(const char *message, size_t n);
