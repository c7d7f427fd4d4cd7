#include "wire/frame.h"

#include <errno.h>

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int frame_append(struct buf *out, uint8_t type, uint32_t stream, uint8_t channel, const void *payload, uint32_t len)
{
    if (len > FRAME_MAX_PAYLOAD)
        return -EMSGSIZE;
    int r = buf_reserve(out, FRAME_HEADER_SIZE + len);
    if (r < 0)
        return r;
    uint8_t header[FRAME_HEADER_SIZE] = {[8] = type, [9] = channel};
    put_u32(header, len);
    put_u32(header + 4, stream);
    r = buf_append(out, header, sizeof(header));
    return r < 0 ? r : buf_append(out, payload, len);
}

/* What a header alone can be wrong about; NULL where it is right. */
static const char *check_header(const uint8_t *h, uint32_t len)
{
    uint8_t type = h[8], channel = h[9];
    if (len > FRAME_MAX_PAYLOAD)
        return "frame longer than allowed";
    if (type < FRAME_MSG || type > FRAME_BYE)
        return "frame of an unknown type";
    if (h[10] || h[11])
        return "frame with reserved bits set";
    if (type == FRAME_DATA ? channel >= CHAN_COUNT : channel != 0)
        return "frame on an unknown channel";
    if ((type == FRAME_RESET || type == FRAME_BYE) && len > 1024)
        return "reason longer than allowed";
    /* It would cost nothing against the window, and so could be sent without end. */
    if (type == FRAME_DATA && len == 0)
        return "record without content";
    if (type == FRAME_WINDOW && len != 4)
        return "window frame of a wrong length";
    if (type == FRAME_CLOSE && len != 0)
        return "close frame with a payload";
    bool connection = type == FRAME_MSG || type == FRAME_BYE;
    if (connection != (get_u32(h + 4) == 0))
        return "frame on the wrong stream";
    return NULL;
}

ssize_t frame_parse(const uint8_t *data, size_t len, struct frame *ret, const char **ret_why)
{
    if (len < FRAME_HEADER_SIZE)
        return 0;
    uint32_t n = get_u32(data);
    const char *why = check_header(data, n);
    if (why) {
        *ret_why = why;
        return -EPROTO;
    }
    if (len - FRAME_HEADER_SIZE < n)
        return 0;
    *ret = (struct frame){
        .stream = get_u32(data + 4),
        .type = data[8],
        .channel = data[9],
        .len = n,
        .payload = data + FRAME_HEADER_SIZE,
    };
    return (ssize_t)(FRAME_HEADER_SIZE + n);
}

uint32_t frame_window(const struct frame *f)
{
    return get_u32(f->payload);
}

void frame_renumber(uint8_t *frame, uint32_t stream)
{
    put_u32(frame + 4, stream);
}
