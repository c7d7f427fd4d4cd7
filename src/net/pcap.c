#include "net/pcap.h"
#include "base/clock.h"
#include "base/macros.h"

#include <string.h>

/* https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap: in the writer's byte order, which the magic number says. */
#define MAGIC_NANOSECONDS 0xa1b23c4du
#define LINK_ETHERNET     1

struct file_header {
    uint32_t magic;
    uint16_t major, minor;
    uint32_t zone, precision, snap, link;
};

struct frame_header {
    uint32_t seconds, nanoseconds, kept, len;
};

int pcap_begin(struct pcap *p, uint64_t cap, struct buf *out)
{
    const struct file_header h = {
        .magic = MAGIC_NANOSECONDS, .major = 2, .minor = 4, .snap = PCAP_SNAP, .link = LINK_ETHERNET};
    *p = (struct pcap){.cap = cap ? cap : PCAP_CAP, .written = sizeof(h)};
    return buf_append(out, &h, sizeof(h));
}

int pcap_frame(struct pcap *p, const uint8_t *frame, size_t len, uint64_t wall, struct buf *out)
{
    struct frame_header h = {
        .seconds = (uint32_t)(wall / NSEC_PER_SEC),
        .nanoseconds = (uint32_t)(wall % NSEC_PER_SEC),
        .kept = (uint32_t)MIN_OF(len, PCAP_SNAP),
        .len = (uint32_t)len,
    };
    if (p->written + sizeof(h) + h.kept > p->cap) {
        p->dropped++;
        return 0;
    }
    int r = buf_reserve(out, sizeof(h) + h.kept);
    if (r == 0)
        r = buf_append(out, &h, sizeof(h));
    if (r == 0)
        r = buf_append(out, frame, h.kept);
    if (r == 0)
        p->written += sizeof(h) + h.kept;
    return r;
}
