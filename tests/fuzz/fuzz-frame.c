/* Any bytes as frames: one that is accepted is made again from its parts byte for byte; a cut one
 * is waited for. */
#include "fuzz.h"

#include "wire/frame.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        struct frame f;
        const char *why = NULL;
        ssize_t n = frame_parse(data + at, size - at, &f, &why);
        MUST(n >= 0 || (n == -EPROTO && why));
        if (n <= 0)
            break;
        MUST((size_t)n <= size - at && f.len <= FRAME_MAX_PAYLOAD);
        CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_SIZE);
        MUST(frame_append(&b, f.type, f.stream, f.channel, f.payload, f.len) == 0);
        MUST(b.len == (size_t)n && memcmp(b.data, data + at, b.len) == 0);
        MUST(frame_parse(data + at, (size_t)n - 1, &f, &why) == 0);
        at += (size_t)n;
    }
    return 0;
}
