#include "net/pcap.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/macros.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC_NANOSECONDS 0xa1b23c4du /* in this machine's byte order, which it tells a reader */
#define LINK_ETHERNET     1
#define WAITING           (256u * 1024)

struct file_header {
    uint32_t magic;
    uint16_t major, minor;
    uint32_t zone, precision, snap, link;
};

struct frame_header {
    uint32_t seconds, nanoseconds, kept, len;
};

static void stop(struct pcap *p, const char *why)
{
    fd_closep(&p->fd);
    p->said = why;
}

/* Of a frame that does not fit nothing is left, for the process that goes on. */
static void write_waiting(struct pcap *p)
{
    if (fd_write_all(p->fd, p->waiting.data, p->waiting.len) < 0) {
        (void)!ftruncate(p->fd, (off_t)(p->bytes - p->waiting.len));
        stop(p, "frames are written to the file of --pcap no more: it cannot be written");
    }
    buf_clear(&p->waiting);
}

void pcap_init(struct pcap *p, int fd)
{
    const struct file_header h = {
        .magic = MAGIC_NANOSECONDS, .major = 2, .minor = 4, .snap = PCAP_SNAP, .link = LINK_ETHERNET};
    struct stat st;
    *p = (struct pcap){.fd = fd, .waiting = BUF_INIT(WAITING + 1)};
    if (fd < 0)
        return;
    p->bytes = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : PCAP_CAP;
    if (p->bytes > 0)
        return;
    if (buf_append(&p->waiting, &h, sizeof(h)) < 0)
        fd_closep(&p->fd);
    p->bytes = sizeof(h);
}

void pcap_done(struct pcap *p)
{
    (void)pcap_flush(p);
    fd_closep(&p->fd);
    buf_done(&p->waiting);
}

void pcap_frame(struct pcap *p, const void *frame, size_t len, uint64_t wall)
{
    const struct frame_header h = {
        .seconds = (uint32_t)(wall / NSEC_PER_SEC),
        .nanoseconds = (uint32_t)(wall % NSEC_PER_SEC),
        .kept = (uint32_t)MIN_OF(len, PCAP_SNAP),
        .len = (uint32_t)len,
    };
    size_t size = sizeof(h) + h.kept;
    if (p->fd >= 0 && (p->bytes + size > PCAP_CAP || p->waiting.len + size > WAITING))
        write_waiting(p);
    if (p->fd >= 0 && p->bytes + size > PCAP_CAP)
        stop(p, "frames are written to the file of --pcap no more: it is full");
    if (p->fd < 0 || buf_reserve(&p->waiting, size) < 0)
        return;
    (void)!buf_append(&p->waiting, &h, sizeof(h));
    (void)!buf_append(&p->waiting, frame, h.kept);
    p->bytes += size;
}

const char *pcap_flush(struct pcap *p)
{
    if (p->fd >= 0 && p->waiting.len)
        write_waiting(p);
    const char *said = p->said;
    p->said = NULL;
    return said;
}
