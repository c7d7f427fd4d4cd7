/*
 * Frames: the unit that travels between host and guest. docs/protocol.md has every byte.
 *
 * A frame is a 12-byte header and a payload, little-endian:
 *
 *     0  u32  payload length, at most FRAME_MAX_PAYLOAD
 *     4  u32  stream number; 0 is the connection itself
 *     8  u8   frame type
 *     9  u8   channel (DATA frames only, else 0)
 *    10  u16  zero
 *
 * Stream numbers: the side that opened the connection (host, or a client of the control socket) uses odd numbers,
 * the other even ones; each side's numbers rise and none is used twice on a connection.
 */
#pragma once

#include "base/buf.h"

#include <stdint.h>

#define FRAME_HEADER_SIZE 12
#define FRAME_MAX_PAYLOAD (64u * 1024)
#define FRAME_MAX_SIZE    (FRAME_HEADER_SIZE + FRAME_MAX_PAYLOAD)

enum frame_type {
    FRAME_MSG = 1,    /* stream 0: a message about the connection (hello, configure, log, ...) */
    FRAME_OPEN = 2,   /* opens a stream; payload: the request message that says what it is for */
    FRAME_DATA = 3,   /* a record of the stream, at least one byte; its kind is in the channel byte; counts
                       * against the window */
    FRAME_WINDOW = 4, /* payload u32: the receiver allows that many more payload bytes */
    FRAME_CLOSE = 5,  /* the sender will send no more DATA on this stream (half close) */
    FRAME_RESET = 6,  /* the stream is gone in both directions; payload: a reason, UTF-8, at most 1 KiB */
    FRAME_BYE = 7,    /* stream 0: the connection is being cut; payload: the reason, at most 1 KiB */
};

/* Channels of DATA frames: what a record is. */
enum frame_channel {
    CHAN_MSG = 0,  /* one message (msg.h) */
    CHAN_OUT = 1,  /* bytes: stdin towards the guest, stdout from it */
    CHAN_ERR = 2,  /* bytes: stderr */
    CHAN_TREE = 3, /* one chunk of the file announced last (tree.h) */
    CHAN_LOG = 4,  /* one or more whole lines of a tool's log */
    CHAN_COUNT,
};

struct frame {
    uint32_t stream;
    uint8_t type;
    uint8_t channel;
    uint32_t len;
    const uint8_t *payload; /* borrowed */
};

/* Appends a frame's bytes to out. len <= FRAME_MAX_PAYLOAD. 0 or -errno of buf. */
int frame_append(struct buf *out, uint8_t type, uint32_t stream, uint8_t channel, const void *payload,
                 uint32_t len) MVM_MUST_CHECK;

/*
 * Takes one frame from the front of (data, len). Returns the number of bytes it takes with *ret borrowed from data,
 * 0 where more bytes are needed, -EPROTO with *ret_why (a static string) for bytes that are no frame.
 */
ssize_t frame_parse(const uint8_t *data, size_t len, struct frame *ret, const char **ret_why) MVM_MUST_CHECK;
/* What a FRAME_WINDOW allows; frame_parse() has seen that its payload is a u32. */
uint32_t frame_window(const struct frame *f);
/* Writes another stream's number into the header of a frame that is passed on. */
void frame_renumber(uint8_t *frame, uint32_t stream);
