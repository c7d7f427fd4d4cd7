#include "machine/request.h"

#include <errno.h>
#include <string.h>

static int send_part(struct client *c, uint32_t stream, const uint8_t *p, size_t n)
{
    static struct msg_part part;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    memcpy(part.bytes, p, n);
    part.len = n;
    int r = msg_part_encode(&b, &part);
    return r < 0 ? r : client_send(c, stream, CHAN_MSG, b.data, b.len);
}

int request_open(struct client *c, const struct buf *request, uint32_t *ret_stream, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(64);
    const struct msg_long m = {.size = request->len};
    if (request->len <= FRAME_MAX_PAYLOAD)
        return client_open(c, request, ret_stream, err);
    int r = request->len > MSG_LONG_MAX ? -E2BIG : msg_long_encode(&b, &m);
    if (r < 0)
        return mvm_error_errno(err, r, "the request");
    r = client_open(c, &b, ret_stream, err);
    if (r < 0)
        return r;
    for (size_t at = 0; r == 0 && at < request->len; at += MSG_PART_MAX)
        r = send_part(c, *ret_stream, request->data + at, MIN_OF(request->len - at, (size_t)MSG_PART_MAX));
    return r == 0 || r == -EPIPE ? 0 : mvm_error_errno(err, r, "the request");
}
