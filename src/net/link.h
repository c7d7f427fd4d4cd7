/* The guest's card: Ethernet frames, one a datagram, between the VMM and this process. What the VMM does not take yet
 * waits here, up to a bound; what is beyond it is lost, as on any link. */
#pragma once

#include "base/macros.h"
#include "net/pcap.h"
#include "net/rate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the largest frame: what a card with the largest MTU sends. */
#define LINK_FRAME_MAX (65536u + 64)

struct link_frame;

struct link {
    int fd;                           /* datagrams, nonblocking */
    struct link_frame *first, **last; /* what waits */
    size_t waiting, most;             /* bytes; more are lost */
    struct pcap pcap;                 /* none after link_init */
    struct rate rate;                 /* no limits after link_init */
    uint64_t sent, received;          /* bytes of frames to the guest, and of the guest */
    uint64_t lost;                    /* frames that were not taken */
};

void link_init(struct link *l, int fd);
void link_done(struct link *l);
/* To the guest, in the order in which they come. */
void link_send(struct link *l, const void *frame, size_t n);
/* Frames wait that the VMM did not take, or whose time has not come: it is to be asked when it does (link_flush), and
 * nothing more should be produced that can wait elsewhere. */
bool link_is_behind(const struct link *l);
void link_flush(struct link *l);
/* What of the card is to be waited for (POLLIN, POLLOUT), as far as its rate lets frames pass now; *ret_next: when that
 * changes, 0: by itself never. */
short link_events(const struct link *l, uint64_t now, uint64_t *ret_next);
/* The next frame of the guest: its size, 0 where there is none or its time has not come, -errno. */
int link_receive(struct link *l, uint8_t ret[static LINK_FRAME_MAX]);
