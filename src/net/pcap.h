/* --pcap FILE: the frames of a VM, as tcpdump and Wireshark read them (libpcap's format, nanoseconds). The caller owns
 * the file (0600) and writes what is appended here. */
#pragma once

#include "base/buf.h"

#define PCAP_SNAP 512           /* bytes kept of a frame; its headers, mostly */
#define PCAP_CAP  (64ull << 20) /* bytes of a file, the default */

struct pcap {
    uint64_t cap, written; /* bytes */
    uint64_t dropped;      /* frames that no longer fitted */
};

/* The file's header. cap: 0 for PCAP_CAP. 0 or what buf_append fails with. */
int pcap_begin(struct pcap *p, uint64_t cap, struct buf *out) MVM_MUST_CHECK;
/* A frame; wall: ns since 1970 (clock_wall). Past the cap it is only counted. */
int pcap_frame(struct pcap *p, const uint8_t *frame, size_t len, uint64_t wall, struct buf *out) MVM_MUST_CHECK;
