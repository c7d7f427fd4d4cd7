#include "image/unpack.h"

#include <errno.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define STEP (1u << 20)

static int unpack_zstd(const uint8_t *p, size_t n, struct buf *out)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    if (!z)
        return -ENOMEM;
    ZSTD_inBuffer in = {p, n, 0};
    int r = 0;
    size_t left = 1;
    while (r == 0 && left) {
        r = buf_reserve(out, MIN_OF((size_t)STEP, out->max - out->len));
        ZSTD_outBuffer o = {out->data + out->len, r == 0 ? MIN_OF((size_t)STEP, out->max - out->len) : 0, 0};
        if (r == 0 && o.size == 0)
            r = -EMSGSIZE;
        if (r < 0)
            break;
        left = ZSTD_decompressStream(z, &o, &in);
        if (ZSTD_isError(left) || (left && o.pos == 0 && in.pos == in.size))
            r = -EBADMSG;
        out->len += o.pos;
    }
    ZSTD_freeDStream(z);
    return r;
}

static int unpack_xz(const uint8_t *p, size_t n, struct buf *out)
{
    lzma_stream s = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&s, 512u << 20, 0) != LZMA_OK)
        return -ENOMEM;
    s.next_in = p;
    s.avail_in = n;
    int r = 0;
    lzma_ret e = LZMA_OK;
    while (r == 0 && e != LZMA_STREAM_END) {
        size_t room = MIN_OF((size_t)STEP, out->max - out->len);
        r = room ? buf_reserve(out, room) : -EMSGSIZE;
        if (r < 0)
            break;
        s.next_out = out->data + out->len;
        s.avail_out = room;
        e = lzma_code(&s, LZMA_FINISH);
        out->len += room - s.avail_out;
        if (e != LZMA_OK && e != LZMA_STREAM_END)
            r = -EBADMSG;
    }
    lzma_end(&s);
    return r;
}

static int unpack_gzip(const uint8_t *p, size_t n, struct buf *out)
{
    z_stream s = {.next_in = (uint8_t *)(uintptr_t)p, .avail_in = (unsigned)MIN_OF(n, (size_t)UINT32_MAX)};
    if (inflateInit2(&s, 15 + 16) != Z_OK)
        return -ENOMEM;
    int r = 0, e = Z_OK;
    while (r == 0 && e != Z_STREAM_END) {
        size_t room = MIN_OF((size_t)STEP, out->max - out->len);
        r = room ? buf_reserve(out, room) : -EMSGSIZE;
        if (r < 0)
            break;
        s.next_out = out->data + out->len;
        s.avail_out = (unsigned)room;
        e = inflate(&s, Z_NO_FLUSH);
        out->len += room - s.avail_out;
        if (e != Z_OK && e != Z_STREAM_END)
            r = -EBADMSG;
    }
    inflateEnd(&s);
    return r;
}

int unpack(const uint8_t *p, size_t n, struct buf *out)
{
    int r;
    if (n >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0)
        r = unpack_zstd(p, n, out);
    else if (n >= 6 && memcmp(p, "\xfd\x37zXZ\0", 6) == 0)
        r = unpack_xz(p, n, out);
    else if (n >= 2 && memcmp(p, "\x1f\x8b", 2) == 0)
        r = unpack_gzip(p, n, out);
    else
        return buf_append(out, p, n);
    return r < 0 ? r : 1;
}
