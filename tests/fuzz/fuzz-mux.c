/*
 * A multiplexer between a peer and an owner who both do what the input says. Whatever they do, what
 * it sends must be whole frames that respect the peer's windows, and after an error it must say no
 * more than goodbye.
 */
#include "fuzz.h"

#include "wire/frame.h"
#include "wire/mux.h"

#include <errno.h>
#include <string.h>

#define MAX_NUMBER 64 /* streams with higher numbers are not followed */

static struct world {
    struct mux *m;
    uint8_t mood;                /* what callbacks do */
    struct buf heard;            /* what the peer got and has not read as a frame */
    int64_t window[MAX_NUMBER];  /* what we may still send */
    int64_t allowed[MAX_NUMBER]; /* what was consumed of the peer's records less what came */
    bool open[MAX_NUMBER], closed[MAX_NUMBER];
    uint32_t our_last;
    bool bye;
    bool raw; /* the peer has said bytes that were not followed: who knows what windows it gave */
} w;

enum mood {
    REFUSE = 1,
    FAIL_RECORD = 2,
    CONSUME = 4,
    RESET_IN_RECORD = 8,
    OUTPUT_IN_RECORD = 16,
    OPENER = 32,
    NO_MEMORY = 64,
    CLOSE_IN_CLOSED = 128
};

/* The peer reads a frame. */
static void hear_frame(const struct frame *f)
{
    MUST(!w.bye);
    w.bye = f->type == FRAME_BYE;
    if (f->stream == 0 || f->stream >= MAX_NUMBER)
        return;
    switch (f->type) {
    case FRAME_OPEN:
        MUST(f->stream > w.our_last && ((f->stream & 1) == 1) == ((w.mood & OPENER) != 0));
        w.our_last = f->stream;
        w.open[f->stream] = true;
        w.window[f->stream] += MUX_WINDOW;
        break;
    case FRAME_DATA:
        MUST(w.open[f->stream] && !w.closed[f->stream]);
        w.window[f->stream] -= f->len;
        MUST(w.window[f->stream] >= 0 || w.raw);
        break;
    case FRAME_CLOSE:
        MUST(w.open[f->stream] && !w.closed[f->stream]);
        w.closed[f->stream] = true;
        break;
    default:
        break;
    }
}

static void hear(size_t most)
{
    const uint8_t *p;
    size_t n = mux_output(w.m, &p);
    n = n < most ? n : most;
    MUST(buf_append(&w.heard, p, n) == 0);
    mux_sent(w.m, n);
    size_t at = 0;
    for (;;) {
        struct frame f;
        const char *why;
        ssize_t len = frame_parse(w.heard.data + at, w.heard.len - at, &f, &why);
        MUST(len >= 0);
        if (len == 0)
            break;
        hear_frame(&f);
        at += (size_t)len;
    }
    buf_drop(&w.heard, at);
}

static void hear_all(void)
{
    const uint8_t *p;
    for (int i = 0; mux_output(w.m, &p) > 0; i++) {
        MUST(i < 100000);
        hear(SIZE_MAX);
    }
}

static int on_msg(void *data, const void *p, size_t n)
{
    return n == 5 ? -EPROTO : 0;
}

static int on_open(void *data, uint32_t stream, const void *p, size_t n)
{
    if (stream < MAX_NUMBER) {
        w.open[stream] = true;
        w.window[stream] += MUX_WINDOW;
    }
    MUST(mux_has(w.m, stream));
    return w.mood & REFUSE ? -EACCES : 0;
}

static void consume(uint32_t stream, size_t n)
{
    if (stream < MAX_NUMBER)
        w.allowed[stream] += (int64_t)n;
    mux_consumed(w.m, stream, n);
}

static int on_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    MUST(mux_has(w.m, stream) && n > 0 && n <= FRAME_MAX_PAYLOAD && channel < CHAN_COUNT);
    if (stream < MAX_NUMBER) {
        w.allowed[stream] -= (int64_t)n;
        MUST(w.allowed[stream] >= -(int64_t)MUX_WINDOW);
    }
    if (w.mood & CONSUME)
        consume(stream, n);
    if (w.mood & OUTPUT_IN_RECORD)
        hear(SIZE_MAX);
    if (w.mood & RESET_IN_RECORD)
        mux_reset(w.m, stream, "enough");
    return w.mood & FAIL_RECORD ? -EINVAL : w.mood & NO_MEMORY ? -ENOMEM : 0;
}

static void on_closed(void *data, uint32_t stream)
{
    MUST(mux_has(w.m, stream));
    if (w.mood & CLOSE_IN_CLOSED)
        mux_close(w.m, stream);
    if (w.mood & RESET_IN_RECORD)
        mux_reset(w.m, stream, "closed");
}

static void on_reset(void *data, uint32_t stream, const char *reason)
{
    MUST(!mux_has(w.m, stream) && strlen(reason) <= 1024);
}

static void on_writable(void *data, uint32_t stream)
{
    MUST(mux_can_send(w.m, stream));
    if (w.mood & RESET_IN_RECORD) {
        mux_reset(w.m, stream ^ 2, "another");
        mux_reset(w.m, stream, "writable");
    } else {
        MUST(mux_send(w.m, stream, CHAN_OUT, "again", 5) != -EAGAIN);
    }
}

static const struct mux_events events = {
    .msg = on_msg,
    .open = on_open,
    .record = on_record,
    .closed = on_closed,
    .reset = on_reset,
    .writable = on_writable,
};

/* Bytes for the multiplexer, in two pieces. */
static void say(const uint8_t *p, size_t n, size_t cut)
{
    bool ended = *mux_problem(w.m) != '\0';
    cut = n ? cut % (n + 1) : 0;
    int r = mux_input(w.m, p, cut);
    if (r == 0)
        r = mux_input(w.m, p + cut, n - cut);
    MUST(r == 0 || (r == -EPROTO && *mux_problem(w.m)));
    MUST(!ended || r == -EPROTO);
}

/* The same frame a number of times: windows are filled by many. */
static void say_frame(struct input *in, unsigned times)
{
    static const uint8_t zeros[FRAME_MAX_PAYLOAD];
    uint8_t type = input_u8(in) % 9, stream = input_u8(in) % 32, channel = input_u8(in) % 6;
    uint16_t len = input_u16(in);
    uint8_t window[4] = {(uint8_t)len, (uint8_t)(len >> 8), channel, 0};
    if (type == FRAME_CLOSE && len % 16)
        len = 0;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_SIZE);
    if (type == FRAME_WINDOW)
        MUST(frame_append(&b, type, stream, 0, window, 4) == 0);
    else
        MUST(frame_append(&b, type, stream, type == FRAME_DATA ? channel : 0, zeros, len) == 0);
    for (unsigned i = 0; i < times; i++) {
        if (type == FRAME_WINDOW)
            w.window[stream] += len | channel << 16;
        say(b.data, b.len, len);
    }
}

static void act(struct input *in)
{
    static const uint8_t zeros[FRAME_MAX_PAYLOAD];
    static uint8_t request[8] = "request";
    struct buf b = {.data = request, .len = 7, .cap = 8, .max = 8};
    uint8_t op = input_u8(in), stream = input_u8(in) % 32;
    const uint8_t *p;
    size_t n;
    switch (op % 10) {
    case 0:
        p = input_bytes(in, input_u8(in), &n);
        w.raw = true;
        say(p, n, op);
        break;
    case 1:
        (void)!mux_open(w.m, &b);
        break;
    case 2:
        (void)!mux_send(w.m, stream, op >> 5, zeros, input_u16(in));
        break;
    case 3:
        mux_close(w.m, stream);
        break;
    case 4:
        mux_reset(w.m, stream, "by the owner");
        break;
    case 5:
        consume(stream, input_u16(in));
        break;
    case 6:
        hear(input_u8(in) * 1024u + 1);
        break;
    case 7:
        (void)!mux_send_msg(w.m, &b);
        break;
    default:
        say_frame(in, op % 10 == 8 ? 1 : 1 + op / 10);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    w = (struct world){.mood = input_u8(&in), .heard = BUF_INIT(8u << 20)};
    w.m = mux_new((w.mood & OPENER) != 0, &events, NULL);
    if (!w.m)
        return 0;
    for (int steps = 0; in.left && steps < 400; steps++)
        act(&in);
    hear_all();
    /* The owner tidies up, whether the connection has ended or not. */
    for (uint32_t i = 1; i < MAX_NUMBER; i++)
        mux_reset(w.m, i, "the end");
    hear_all();
    MUST(w.heard.len == 0); /* nothing but whole frames */
    mux_free(w.m);
    buf_done(&w.heard);
    return 0;
}
