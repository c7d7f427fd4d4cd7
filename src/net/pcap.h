/* --pcap FILE: what passes the guest's card, as tcpdump and Wireshark read it (pcap(5), with nanoseconds). The file is
 * opened elsewhere; a network process that follows another goes on in it. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define PCAP_SNAP 4096u         /* bytes that are kept of a frame */
#define PCAP_CAP  (64ull << 20) /* of the file */

struct pcap {
    int fd;         /* -1: there is none, or no more */
    uint64_t bytes; /* of the file, and of what waits */
    struct buf waiting;
    const char *said; /* why nothing more is written */
};

/* Takes fd, which appends: a file with nothing in it begins with its header. -1: nothing is written. */
void pcap_init(struct pcap *p, int fd);
void pcap_done(struct pcap *p);
/* wall: ns since 1970. */
void pcap_frame(struct pcap *p, const void *frame, size_t len, uint64_t wall);
/* Writes what waits. What the log should say, once: that the file is full, or why it cannot be written; NULL: nothing.
 */
const char *pcap_flush(struct pcap *p);
