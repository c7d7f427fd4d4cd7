/*
 * The agent's side of the channel, misbehaving on command. Each behaviour is a function; all but a few say hello and
 * are configured first, so that the VM is ready when they begin. What clients open is noted, and answered by the honest
 * ones.
 */
#include "fake.h"

#include "base/macros.h"
#include "wire/frame.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int port;
static bool said_hello; /* by the one that was saved */
static uint8_t in[4 * FRAME_MAX_SIZE];
static size_t n_in;
static struct buf out = {.max = 64u << 20};

#define WINDOW (128 * 1024) /* what streams begin with, as MSG_CONFIGURE asks for */

static struct {
    uint32_t number;
    int64_t window;
} streams[1024]; /* open ones */
static size_t n_streams;

/* ---- Sending ---- */

static void frame(uint8_t type, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    if (frame_append(&out, type, stream, channel, p, (uint32_t)n) < 0)
        abort();
}

static void raw(const void *p, size_t n)
{
    if (buf_append(&out, p, n) < 0)
        abort();
}

static void message(const struct buf *m)
{
    frame(FRAME_MSG, 0, 0, m->data, m->len);
}

/* A header as it is, whatever it says. */
static void header(uint32_t len, uint32_t stream, uint8_t type, uint8_t channel)
{
    const uint8_t h[FRAME_HEADER_SIZE] = {
        (uint8_t)len,
        (uint8_t)(len >> 8),
        (uint8_t)(len >> 16),
        (uint8_t)(len >> 24),
        (uint8_t)stream,
        (uint8_t)(stream >> 8),
        (uint8_t)(stream >> 16),
        (uint8_t)(stream >> 24),
        type,
        channel,
    };
    raw(h, sizeof(h));
}

/* Whatever the host does, the VM goes on: it is not its VMM that ends it. */
static void for_ever(void)
{
    for (;;)
        pause();
}

static void flush(void)
{
    for (size_t at = 0; at < out.len;) {
        ssize_t n = write(port, out.data + at, out.len - at);
        if (n <= 0)
            for_ever();
        at += (size_t)n;
    }
    buf_clear(&out);
}

/* The same bytes for ever. */
static void flood(void)
{
    size_t once = out.len;
    CLEAN_BUF struct buf pattern = {.max = 8u << 20};
    while (pattern.len < 256 * 1024)
        if (buf_append(&pattern, out.data, once) < 0)
            abort();
    for (size_t at = 0;; at = at == pattern.len ? 0 : at) {
        ssize_t n = write(port, pattern.data + at, pattern.len - at);
        if (n <= 0)
            for_ever();
        at += (size_t)n;
    }
}

/* ---- Receiving ---- */

static void note(const struct frame *f)
{
    struct msg_reader r;
    if (f->type == FRAME_MSG && msg_open(&r, f->payload, f->len) == 0 && r.type == MSG_POWEROFF)
        exit(0);
    if (f->type == FRAME_OPEN && n_streams < ARRAY_SIZE(streams)) {
        streams[n_streams].number = f->stream;
        streams[n_streams++].window = WINDOW;
    }
    for (size_t i = 0; i < n_streams; i++) {
        if (streams[i].number != f->stream)
            continue;
        if (f->type == FRAME_WINDOW)
            streams[i].window += f->payload[0] | f->payload[1] << 8 | f->payload[2] << 16 | f->payload[3] << 24;
        else if (f->type == FRAME_RESET)
            streams[i--] = streams[--n_streams];
    }
}

/* The next frame: valid until the next call. */
static void next_frame(struct frame *ret)
{
    static size_t used;
    const char *why;
    memmove(in, in + used, n_in - used);
    n_in -= used;
    used = 0;
    for (;;) {
        ssize_t n = frame_parse(in, n_in, ret, &why);
        if (n < 0)
            exit(3);
        if (n > 0) {
            used = (size_t)n;
            note(ret);
            return;
        }
        n = read(port, in + n_in, sizeof(in) - n_in);
        if (n <= 0)
            for_ever();
        n_in += (size_t)n;
    }
}

static void wait_for_streams(size_t n)
{
    struct frame f;
    while (n_streams < n)
        next_frame(&f);
}

/* ---- The beginning that they have in common ---- */

static void hello(void)
{
    if (said_hello)
        return;
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    const struct msg_hello m = {.protocol = MVM_PROTOCOL_VERSION, .role = "runtime", .kernel = "0-fake"};
    if (msg_hello_encode(&b, &m) < 0)
        abort();
    message(&b);
}

static void get_ready(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    const struct msg_configured m = {.address = "10.0.2.15/24", .window = WINDOW};
    struct msg_reader r;
    struct frame f;
    hello();
    flush();
    do
        next_frame(&f);
    while (f.type != FRAME_MSG || msg_open(&r, f.payload, f.len) < 0 || r.type != MSG_CONFIGURE);
    if (msg_configured_encode(&b, &m) < 0)
        abort();
    message(&b);
    flush();
}

/* ---- Honest ---- */

static void exit_ok(uint32_t stream)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    const struct msg_exit m = {0};
    if (msg_exit_encode(&b, &m) < 0)
        abort();
    frame(FRAME_DATA, stream, CHAN_MSG, b.data, b.len);
    frame(FRAME_CLOSE, stream, 0, NULL, 0);
    flush();
}

/* Serves every program: it ends at once. */
static void honest(void)
{
    struct frame f;
    get_ready();
    for (;;) {
        next_frame(&f);
        if (f.type == FRAME_OPEN)
            exit_ok(f.stream);
    }
}

/* ... as long as a program lasts that is told so: after half a second, all that came. */
static void slow(void)
{
    struct frame f;
    get_ready();
    for (;;) {
        struct pollfd p = {.fd = port, .events = POLLIN};
        while (poll(&p, 1, 500) == 1)
            next_frame(&f);
        for (size_t i = 0; i < n_streams; i++)
            exit_ok(streams[i].number);
        n_streams = 0;
    }
}

/* ---- Floods ---- */

static void flood_hello(void)
{
    get_ready();
    hello();
    flood();
}

static void flood_log(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    struct msg_log m;
    get_ready();
    memset(m.text, 'x', sizeof(m.text) - 1);
    m.text[sizeof(m.text) - 1] = '\0';
    if (msg_log_encode(&b, &m) < 0)
        abort();
    message(&b);
    flood();
}

static void flood_service(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    const struct msg_service m = {.name = "web", .state = "failed", .code = 1};
    get_ready();
    if (msg_service_encode(&b, &m) < 0)
        abort();
    message(&b);
    flood();
}

static void flood_unknown(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    get_ready();
    if (msg_begin(&b, 250) < 0)
        abort();
    message(&b);
    flood();
}

/* Each with another number: they must rise only for who looks. Never reads the answers. */
static void flood_open(void)
{
    get_ready();
    for (uint32_t stream = 2;; stream += 2) {
        frame(FRAME_OPEN, stream, 0, "\x20\x01", 2);
        if (out.len > 128 * 1024)
            flush();
    }
}

static void flood_gone(void)
{
    static const uint8_t bytes[FRAME_MAX_PAYLOAD];
    get_ready();
    wait_for_streams(1);
    frame(FRAME_RESET, streams[0].number, 0, NULL, 0);
    flush();
    frame(FRAME_DATA, streams[0].number, CHAN_OUT, bytes, sizeof(bytes));
    flood();
}

/* A byte of window for each byte that came, and then some. */
static void flood_window(void)
{
    static const uint8_t one[4] = {1};
    get_ready();
    wait_for_streams(1);
    frame(FRAME_WINDOW, streams[0].number, 0, one, sizeof(one));
    flood();
}

static void flood_reset(void)
{
    get_ready();
    wait_for_streams(1);
    frame(FRAME_RESET, streams[0].number, 0, "no", 2);
    flood();
}

/* All that the windows allow, on every stream, in the smallest pieces that there are, to clients that do not read. */
static void fill(size_t piece, size_t at_once)
{
    static const uint8_t bytes[FRAME_MAX_PAYLOAD];
    struct frame f;
    get_ready();
    for (;;) {
        struct pollfd p = {.fd = port, .events = POLLIN};
        while (poll(&p, 1, out.len ? 0 : 200) == 1)
            next_frame(&f);
        flush();
        for (size_t i = 0; i < n_streams; i++) {
            for (size_t n = 0; n < at_once && streams[i].window >= (int64_t)piece; n++) {
                frame(FRAME_DATA, streams[i].number, CHAN_OUT, bytes, piece);
                streams[i].window -= (int64_t)piece;
            }
        }
    }
}

static void fill_large(void)
{
    fill(FRAME_MAX_PAYLOAD, 1);
}

static void fill_small(void)
{
    fill(1, 8192);
}

/* ---- Absurd numbers ---- */

static void huge_window(void)
{
    static const uint8_t all[4] = {255, 255, 255, 255};
    get_ready();
    wait_for_streams(1);
    frame(FRAME_WINDOW, streams[0].number, 0, all, sizeof(all));
    flush();
    for_ever();
}

static void no_window(void)
{
    static const uint8_t zero[4];
    get_ready();
    wait_for_streams(1);
    frame(FRAME_WINDOW, streams[0].number, 0, zero, sizeof(zero));
    flush();
    for_ever();
}

static void beyond_window(void)
{
    static const uint8_t bytes[FRAME_MAX_PAYLOAD];
    get_ready();
    wait_for_streams(1);
    for (int i = 0; i < 40; i++)
        frame(FRAME_DATA, streams[0].number, CHAN_OUT, bytes, sizeof(bytes));
    flush();
    for_ever();
}

static void huge_frame(void)
{
    get_ready();
    header(UINT32_MAX, 0, FRAME_MSG, 0);
    flush();
    for_ever();
}

static void unknown_frame(void)
{
    get_ready();
    header(0, 1, 99, 0);
    flush();
    for_ever();
}

static void unknown_stream(void)
{
    get_ready();
    frame(FRAME_DATA, 4000000001u, CHAN_OUT, "x", 1);
    flush();
    for_ever();
}

static void broken_message(void)
{
    get_ready();
    frame(FRAME_MSG, 0, 0, "\x02\x01\x01\xff\xff\xff\xff", 7);
    flush();
    for_ever();
}

static void other_protocol(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    const struct msg_hello m = {.protocol = 99, .role = "runtime"};
    if (msg_hello_encode(&b, &m) < 0)
        abort();
    message(&b);
    flush();
    for_ever();
}

/* ---- Silence and early ends ---- */

static void silent(void)
{
    get_ready();
    for_ever();
}

static void half_header(void)
{
    get_ready();
    raw("\x10\x00\x00", 3);
    flush();
    for_ever();
}

static void half_frame(void)
{
    get_ready();
    header(FRAME_MAX_PAYLOAD, 0, FRAME_MSG, 0);
    raw("\x02\x01", 2);
    flush();
}

static void end_after_hello(void)
{
    hello();
    flush();
}

static void end_when_ready(void)
{
    get_ready();
}

static void goodbye(void)
{
    get_ready();
    frame(FRAME_BYE, 0, 0, "enough", 6);
    flush();
    for_ever();
}

void agent_run(int channel, const char *behaviour, bool restored)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {
        {"honest", honest},
        {"slow", slow},
        {"mute", for_ever},
        {"flood-hello", flood_hello},
        {"flood-log", flood_log},
        {"flood-service", flood_service},
        {"flood-unknown", flood_unknown},
        {"flood-open", flood_open},
        {"flood-gone", flood_gone},
        {"flood-window", flood_window},
        {"flood-reset", flood_reset},
        {"fill-large", fill_large},
        {"fill-small", fill_small},
        {"huge-window", huge_window},
        {"no-window", no_window},
        {"beyond-window", beyond_window},
        {"huge-frame", huge_frame},
        {"unknown-frame", unknown_frame},
        {"unknown-stream", unknown_stream},
        {"broken-message", broken_message},
        {"other-protocol", other_protocol},
        {"silent", silent},
        {"halted", silent}, /* ... for a reason that the VMM tells */
        {"half-header", half_header},
        {"half-frame", half_frame},
        {"end-after-hello", end_after_hello},
        {"end-when-ready", end_when_ready},
        {"goodbye", goodbye},
    };
    port = channel;
    said_hello = restored;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (strcmp(all[i].name, behaviour) == 0) {
            all[i].run();
            return;
        }
    }
    fprintf(stderr, "no behaviour is named '%s'\n", behaviour);
    exit(2);
}
