/* The multiplexer: two of them connected in memory, and peers that break the rules. */
#include "failing.h"
#include "tap.h"

#include "wire/frame.h"
#include "wire/mux.h"

#include <errno.h>
#include <string.h>

#define MAX_NUMBER 1100

struct side {
    struct mux *m;
    struct side *peer;
    bool hold;        /* records are not consumed */
    int record_error; /* what `record` returns */
    int open_error;
    uint64_t got[MAX_NUMBER];
    size_t held[MAX_NUMBER];
    bool damaged; /* bytes that are not what was sent */
    unsigned opened, closed, resets, writable, msgs;
    uint32_t last;
    char reason[1025];
};

static int side_msg(void *data, const void *p, size_t n)
{
    struct side *s = data;
    s->msgs++;
    return n == 3 && memcmp(p, "bad", 3) == 0 ? -EPROTO : 0;
}

static int side_open(void *data, uint32_t stream, const void *p, size_t n)
{
    struct side *s = data;
    s->opened++;
    s->last = stream;
    return s->open_error;
}

static int side_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n)
{
    struct side *s = data;
    const uint8_t *bytes = p;
    if (s->record_error)
        return s->record_error;
    uint64_t at = s->got[stream];
    static uint8_t want[FRAME_MAX_PAYLOAD];
    fill(want, n, stream + at);
    s->damaged |= memcmp(bytes, want, n) != 0 || channel != stream % CHAN_COUNT;
    s->got[stream] += n;
    if (s->hold)
        s->held[stream] += n;
    else
        mux_consumed(s->m, stream, n);
    return 0;
}

static void side_closed(void *data, uint32_t stream)
{
    struct side *s = data;
    s->closed++;
}

static void side_reset(void *data, uint32_t stream, const char *reason)
{
    struct side *s = data;
    s->resets++;
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
}

static void side_writable(void *data, uint32_t stream)
{
    struct side *s = data;
    s->writable++;
}

static const struct mux_events side_events = {
    .msg = side_msg,
    .open = side_open,
    .record = side_record,
    .closed = side_closed,
    .reset = side_reset,
    .writable = side_writable,
};

struct pair {
    struct side a, b; /* a opens */
};

static void pair_done(struct pair *p)
{
    mux_free(p->a.m);
    mux_free(p->b.m);
}
#define CLEAN_PAIR CLEANUP(pair_done)

static void pair_init(struct pair *p)
{
    memset(p, 0, sizeof(*p));
    p->a.m = mux_new(true, &side_events, &p->a);
    p->b.m = mux_new(false, &side_events, &p->b);
}

/* Carries what `from` has to send, in pieces of at most n bytes: the bytes moved, or mux_input's
 * error. */
static ssize_t carry(struct side *from, struct side *to, size_t piece)
{
    const uint8_t *p;
    size_t n, total = 0;
    while ((n = mux_output(from->m, &p)) > 0) {
        n = MIN_OF(n, piece);
        CLEAN_FREE uint8_t *copy = malloc(n);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, p, n);
        mux_sent(from->m, n);
        int r = mux_input(to->m, copy, n);
        if (r < 0)
            return r;
        total += n;
    }
    return (ssize_t)total;
}

static int settle(struct pair *p, size_t piece)
{
    ssize_t there, back;
    do {
        there = carry(&p->a, &p->b, piece);
        back = there < 0 ? 0 : carry(&p->b, &p->a, piece);
    } while (there > 0 || back > 0);
    return there < 0 ? (int)there : (int)back;
}

static uint32_t open_stream(struct side *s)
{
    CLEAN_BUF struct buf request = BUF_INIT(64);
    int64_t n = buf_str(&request, "request") < 0 ? -ENOMEM : mux_open(s->m, &request);
    return n < 0 ? 0 : (uint32_t)n;
}

/* Sends n bytes that the other side can check; `sent` counts what went before. */
static int send_some(struct side *s, uint32_t stream, uint64_t *sent, size_t n)
{
    static uint8_t bytes[FRAME_MAX_PAYLOAD];
    fill(bytes, n, stream + *sent);
    int r = mux_send(s->m, stream, (uint8_t)(stream % CHAN_COUNT), bytes, n);
    if (r == 0)
        *sent += n;
    return r;
}

static void mux_life(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    CLEAN_BUF struct buf msg = BUF_INIT(64);
    ok(buf_str(&msg, "hello") == 0 && mux_send_msg(p.a.m, &msg) == 0 && settle(&p, 1000) == 0 && p.b.msgs == 1,
       "a message reaches the other side");
    uint32_t one = open_stream(&p.a), two = open_stream(&p.b);
    uint64_t sent = 0, back = 0;
    ok(one == 1 && two == 2, "the opener's streams are odd, the other side's even");
    ok(settle(&p, 5) == 0 && p.b.opened == 1 && p.a.opened == 1 && p.b.last == 1, "both open");
    ok(send_some(&p.a, one, &sent, 10) == 0 && send_some(&p.b, one, &back, 20) == 0, "records");
    mux_close(p.a.m, one);
    ok(send_some(&p.a, one, &sent, 10) == -EPIPE, "nothing is sent behind a close");
    ok(settle(&p, 5) == 0 && p.b.got[1] == 10 && p.a.got[1] == 20 && p.b.closed == 1,
       "the close arrives behind the records");
    ok(mux_has(p.a.m, one) && mux_has(p.b.m, one), "a half closed stream lives");
    ok(send_some(&p.b, one, &back, 30) == 0 && settle(&p, 5) == 0 && p.a.got[1] == 50,
       "and carries the other direction");
    mux_close(p.b.m, one);
    ok(settle(&p, 5) == 0 && p.a.closed == 1 && !mux_has(p.a.m, one) && !mux_has(p.b.m, one),
       "closed by both it is forgotten");
    ok(open_stream(&p.a) == 3, "and its number is not used again");
    ok(mux_send(p.b.m, two, CHAN_OUT, "", 0) == 0 && settle(&p, 99) == 0 && !p.a.got[2], "a record of nothing is none");
    ok(mux_send(p.b.m, two, CHAN_COUNT, "x", 1) == -EINVAL, "an unknown channel is not sent");
    ok(mux_send(p.b.m, two, 0, "", FRAME_MAX_PAYLOAD + 1) == -EMSGSIZE, "nor too long a record");
    ok(!p.a.damaged && !p.b.damaged, "nothing was damaged");
}

/* Held, a side sends whole frames of what was queued before and nothing of what comes later. */
static void mux_drained(size_t piece)
{
    CLEAN_PAIR struct pair p;
    CLEAN_BUF struct buf m = BUF_INIT(16);
    uint64_t sent = 0;
    pair_init(&p);
    uint32_t stream = open_stream(&p.a);
    settle(&p, piece);
    if (buf_append(&m, "one", 3) < 0 || mux_send_msg(p.a.m, &m) < 0)
        abort();
    mux_drain(p.a.m);
    ok(mux_send_msg(p.a.m, &m) == 0 && send_some(&p.a, stream, &sent, 1000) == 0, "what is held is taken");
    settle(&p, piece);
    ok(p.b.msgs == 1 && p.b.got[stream] == 0, "but only what came before is sent, pieces of %zu", piece);
    mux_undrain(p.a.m);
    settle(&p, piece);
    ok(p.b.msgs == 2 && p.b.got[stream] == 1000 && !p.b.damaged, "the rest follows when it is released");
}

static void mux_many(size_t piece)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    enum { STREAMS = MUX_MAX_STREAMS };
    static uint32_t stream[STREAMS];
    static uint64_t sent[STREAMS];
    memset(sent, 0, sizeof(sent));
    bool good = true;
    for (int i = 0; i < STREAMS; i++)
        good &= (stream[i] = open_stream(&p.a)) != 0;
    CLEAN_BUF struct buf request = BUF_INIT(8);
    ok(good && mux_open(p.a.m, &request) == -EMFILE, "%d streams open, and no more", STREAMS);
    for (int round = 0; round < 20 && good; round++) {
        for (int i = 0; i < STREAMS; i++)
            good &= send_some(&p.a, stream[i], &sent[i], (size_t)(1 + (i * 37 + round * 101) % 900)) == 0;
        if (round % 3 == 0)
            good &= settle(&p, piece) == 0;
    }
    for (int i = 0; i < STREAMS; i++)
        mux_close(p.a.m, stream[i]);
    good &= settle(&p, piece) == 0;
    for (int i = 0; i < STREAMS; i++)
        good &= p.b.got[stream[i]] == sent[i];
    ok(good && !p.b.damaged && p.b.closed == STREAMS, "all records arrive whole, in pieces of %zu", piece);
}

/* A peer that opens streams without end: its frames are made by hand, for a multiplexer of ours stops at the limit. */
static void mux_refuses_more(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    enum { OVER = 100 };
    CLEAN_BUF struct buf opens = BUF_INIT(1 << 16);
    bool good = true;
    for (uint32_t i = 0; i < MUX_MAX_STREAMS + OVER; i++)
        good &= frame_append(&opens, FRAME_OPEN, 2 * i + 1, 0, "request", 7) == 0;
    ok(good && mux_input(p.b.m, opens.data, opens.len) == 0 && p.b.opened == MUX_MAX_STREAMS,
       "R8: of streams without end a peer gets 384");
    unsigned refused = 0;
    const uint8_t *out;
    for (size_t n; (n = mux_output(p.b.m, &out)) > 0; mux_sent(p.b.m, n)) {
        struct frame f;
        const char *why;
        ssize_t used = 0;
        for (size_t at = 0; at < n && (used = frame_parse(out + at, n - at, &f, &why)) > 0; at += (size_t)used)
            refused += f.type == FRAME_RESET && f.stream > 2 * MUX_MAX_STREAMS &&
                       memmem(f.payload, f.len, "384 streams are open already, which is the limit", 48) != NULL;
        good &= used > 0;
    }
    ok(good && refused == OVER, "R8: each stream above them is reset, with the limit's name");
    buf_clear(&opens);
    mux_reset(p.b.m, 1, "enough");
    good = frame_append(&opens, FRAME_OPEN, 2 * (MUX_MAX_STREAMS + OVER) + 1, 0, "request", 7) == 0;
    ok(good && mux_input(p.b.m, opens.data, opens.len) == 0 && p.b.opened == MUX_MAX_STREAMS + 1 && p.b.resets == 0,
       "R8: when one has ended another is served");
}

/* The least window: records of its half get through one after the other, and no more than it waits on either side. */
static void mux_small_window(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    uint64_t sent = 0;
    uint32_t stream = open_stream(&p.a);
    mux_set_window(p.a.m, stream, MUX_LEAST_WINDOW);
    ok(settle(&p, 4096) == 0 && mux_record_max(MUX_LEAST_WINDOW) == MUX_LEAST_WINDOW / 2 &&
           mux_record_max(MUX_WINDOW) == FRAME_MAX_PAYLOAD,
       "a record is at most half of a small window");
    mux_set_window(p.b.m, stream, MUX_LEAST_WINDOW);
    p.b.hold = true;
    while (mux_can_send(p.a.m, stream) && send_some(&p.a, stream, &sent, MUX_LEAST_WINDOW / 2) == 0)
        settle(&p, 4096);
    ok(p.b.got[stream] == MUX_LEAST_WINDOW && sent == 2 * MUX_LEAST_WINDOW,
       "a stream of a small window has that on its way, and as much in its queue");
    p.b.hold = false;
    mux_consumed(p.b.m, stream, p.b.held[stream]);
    for (int i = 0; i < 10; i++) {
        settle(&p, 4096);
        if (send_some(&p.a, stream, &sent, MUX_LEAST_WINDOW / 2) < 0)
            break;
    }
    settle(&p, 4096);
    ok(sent == 14 * (MUX_LEAST_WINDOW / 2) && p.b.got[stream] == sent && !p.b.damaged, "and goes on as it is read");
}

static void mux_slow_reader(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    uint32_t slow = open_stream(&p.a), fast = open_stream(&p.a);
    uint64_t slow_sent = 0, fast_sent = 0;
    bool good = settle(&p, 1 << 16) == 0;
    p.b.hold = true; /* nothing is consumed: the slow stream's window fills */
    for (int i = 0; i < 100; i++) {
        int r = send_some(&p.a, slow, &slow_sent, 50000);
        good &= (r == 0 || r == -EAGAIN) && settle(&p, 1 << 16) == 0;
    }
    ok(good && p.b.got[slow] <= MUX_WINDOW && p.b.got[slow] > MUX_WINDOW - 50000,
       "a stream that is not read stops at its window");
    ok(slow_sent - p.b.got[slow] <= MUX_QUEUE + 50000 && !mux_can_send(p.a.m, slow),
       "what is queued behind it is bounded");
    ok(send_some(&p.a, slow, &slow_sent, 1) == -EAGAIN && p.a.writable == 0, "the queue is full");
    p.b.hold = false;
    for (int i = 0; i < 200; i++)
        good &= send_some(&p.a, fast, &fast_sent, 60000) == 0 && settle(&p, 1 << 16) == 0;
    ok(good && p.b.got[fast] == fast_sent && fast_sent > 8 * MUX_WINDOW, "another stream is not stopped by it");
    mux_consumed(p.b.m, slow, p.b.held[slow]);
    ok(settle(&p, 1 << 16) == 0 && p.b.got[slow] == slow_sent, "read on, the rest comes");
    ok(p.a.writable > 0 && mux_can_send(p.a.m, slow), "and the sender is told that there is room");
    ok(!p.b.damaged, "nothing was damaged");
}

static void mux_fair(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    uint32_t stream[3];
    uint64_t sent[3] = {0};
    for (int i = 0; i < 3; i++)
        stream[i] = open_stream(&p.a);
    bool good = settle(&p, 1 << 16) == 0;
    for (int i = 0; i < 3; i++)
        while (send_some(&p.a, stream[i], &sent[i], 60000) == 0)
            ;
    /* After each batch no stream is more than a record ahead of another. */
    const uint8_t *out;
    for (size_t n; (n = mux_output(p.a.m, &out)) > 0; mux_sent(p.a.m, n)) {
        good &= mux_input(p.b.m, out, n) == 0;
        uint64_t least = UINT64_MAX, most = 0;
        for (int i = 0; i < 3; i++) {
            least = MIN_OF(least, p.b.got[stream[i]]);
            most = MAX_OF(most, p.b.got[stream[i]]);
        }
        good &= most - least <= 60000;
    }
    ok(good && p.b.got[stream[0]] == sent[0], "streams are served in turn");
}

static void mux_resets(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    uint32_t one = open_stream(&p.a);
    uint64_t sent = 0, back = 0;
    bool good = settle(&p, 100) == 0;
    good &= send_some(&p.a, one, &sent, 100) == 0 && send_some(&p.b, one, &back, 100) == 0;
    mux_reset(p.a.m, one, "enough");
    ok(good && !mux_has(p.a.m, one) && send_some(&p.a, one, &sent, 1) == -EPIPE, "a reset is at once");
    ok(settle(&p, 100) == 0 && p.b.resets == 1 && strcmp(p.b.reason, "enough") == 0 && !p.b.got[one],
       "the other side learns the reason; what was queued is dropped");
    ok(!mux_has(p.b.m, one) && p.a.got[one] == 0 && p.a.resets == 0, "frames on their way are ignored");

    p.b.open_error = -EACCES;
    uint32_t two = open_stream(&p.a);
    ok(settle(&p, 100) == 0 && p.a.resets == 1 && !mux_has(p.a.m, two) && !mux_has(p.b.m, two),
       "a request that is refused is reset: %s", p.a.reason);
    p.b.open_error = 0;

    uint32_t three = open_stream(&p.a), four = open_stream(&p.a);
    sent = back = 0;
    p.b.record_error = -ENOMEM;
    good = send_some(&p.a, three, &sent, 10) == 0 && settle(&p, 100) == 0;
    p.b.record_error = 0;
    ok(good && p.b.resets == 2 && p.a.resets == 2 && !mux_has(p.a.m, three),
       "a record that finds no memory costs its stream");
    ok(send_some(&p.a, four, &back, 10) == 0 && settle(&p, 100) == 0 && p.b.got[four] == 10, "and no other");
    p.b.record_error = -EINVAL;
    ok(send_some(&p.a, four, &back, 10) == 0 && settle(&p, 100) == -EPROTO, "any other error ends it all");
    ok(carry(&p.b, &p.a, 100) == -EPROTO && strstr(mux_problem(p.a.m), "record that cannot be understood"),
       "the other side is told: %s", mux_problem(p.a.m));
    ok(mux_send(p.a.m, four, 0, "x", 1) == -EPIPE && open_stream(&p.a) == 0 && !mux_can_send(p.a.m, four),
       "nothing is sent after the end");
    mux_reset(p.b.m, four, "late");
    const uint8_t *out;
    ok(mux_output(p.a.m, &out) == 0 && mux_output(p.b.m, &out) == 0, "a bye is not answered, and nothing follows it");
}

/* What a peer must not do: frames made by hand, and the words they are refused with. NULL: they are
 * fine. */
struct script {
    const char *what;
    const char *problem;
    struct {
        uint8_t type;
        uint32_t stream;
        uint32_t len;
    } f[5];
};

static const struct script scripts[] = {
    {"an even number from the opener", "out of order", {{FRAME_OPEN, 2, 1}}},
    {"a number used twice", "out of order", {{FRAME_OPEN, 3, 1}, {FRAME_OPEN, 3, 1}}},
    {"a number that falls", "out of order", {{FRAME_OPEN, 3, 1}, {FRAME_OPEN, 1, 1}}},
    {"data for a stream never opened", "never opened", {{FRAME_DATA, 5, 1}}},
    {"a window for our stream never opened", "never opened", {{FRAME_WINDOW, 2, 4}}},
    {"a close of a stream never opened", "never opened", {{FRAME_OPEN, 1, 1}, {FRAME_CLOSE, 3, 0}}},
    {"data after close", "after close", {{FRAME_OPEN, 1, 1}, {FRAME_CLOSE, 1, 0}, {FRAME_DATA, 1, 1}}},
    {"two closes", "closed twice", {{FRAME_OPEN, 1, 1}, {FRAME_CLOSE, 1, 0}, {FRAME_CLOSE, 1, 0}}},
    {"a window that overflows", "too large", {{FRAME_OPEN, 1, 1}, {FRAME_WINDOW, 1, 4}}},
    {"a frame that is none", "unknown type", {{9, 1, 1}}},
    {"a message that is refused", "understood", {{FRAME_MSG, 0, 3}}},
    {"a bye", "the peer ended the connection: bad", {{FRAME_BYE, 0, 3}}},
    {"frames for a stream reset by the peer itself",
     NULL,
     {{FRAME_OPEN, 1, 1}, {FRAME_RESET, 1, 3}, {FRAME_DATA, 1, 9}, {FRAME_WINDOW, 1, 4}, {FRAME_RESET, 1, 0}}},
};

static void mux_strictness(const struct script *s)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(s->f) && s->f[i].type; i++)
        r |= frame_append(&b, s->f[i].type, s->f[i].stream, 0,
                          s->f[i].type == FRAME_WINDOW ? "\xff\xff\xff\xff" : "badbadbad", s->f[i].len);
    int whole = mux_input(p.b.m, b.data, b.len);
    bool fine =
        s->problem ? whole == -EPROTO && strstr(mux_problem(p.b.m), s->problem) : whole == 0 && !*mux_problem(p.b.m);
    ok(r == 0 && fine, "%s is %s", s->what, s->problem ? "refused" : "fine");
    /* The same byte by byte. */
    CLEAN_PAIR struct pair q;
    pair_init(&q);
    for (size_t i = 0; r == 0 && i < b.len; i++)
        r = mux_input(q.b.m, b.data + i, 1);
    ok(r == whole && strcmp(mux_problem(p.b.m), mux_problem(q.b.m)) == 0, "so it is byte by byte");
}

static void mux_window_violation(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    p.b.hold = true;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_SIZE);
    static uint8_t payload[FRAME_MAX_PAYLOAD];
    int r = frame_append(&b, FRAME_OPEN, 1, 0, "x", 1);
    if (r == 0)
        r = mux_input(p.b.m, b.data, b.len);
    unsigned taken = 0;
    for (; r == 0 && taken < 100; taken += r == 0) {
        buf_clear(&b);
        r = frame_append(&b, FRAME_DATA, 1, 1, payload, sizeof(payload));
        if (r == 0)
            r = mux_input(p.b.m, b.data, b.len);
    }
    ok(r == -EPROTO && taken == MUX_WINDOW / sizeof(payload), "a peer that ignores the window is cut off");
    const uint8_t *out;
    const char *why = "";
    struct frame f = {0};
    size_t n = mux_output(p.b.m, &out);
    ssize_t len = frame_parse(out, n, &f, &why);
    ok(len == (ssize_t)n && f.type == FRAME_BYE && f.len > 10, "with a bye that says why: %.*s", (int)f.len,
       (const char *)f.payload);
    mux_sent(p.b.m, n);
    ok(mux_output(p.b.m, &out) == 0 && mux_input(p.b.m, "x", 1) == -EPROTO, "once; then there is silence");
}

/* A peer that makes us answer and never reads: it pays, not our memory. */
static void mux_answer_flood(void)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    p.b.open_error = -EACCES;
    CLEAN_BUF struct buf b = BUF_INIT(64);
    int r = 0;
    for (uint32_t i = 1; r == 0 && i < 2000000; i += 2) {
        buf_clear(&b);
        r = frame_append(&b, FRAME_OPEN, i, 0, "x", 1);
        if (r == 0)
            r = mux_input(p.b.m, b.data, b.len);
    }
    ok(r == -EPROTO && strstr(mux_problem(p.b.m), "does not read"), "unread answers end the connection");
    const uint8_t *out;
    struct frame f = {0};
    const char *why;
    size_t n, total = 0;
    CLEAN_BUF struct buf rest = BUF_INIT(8u << 20);
    for (; r == -EPROTO && (n = mux_output(p.b.m, &out)) > 0; mux_sent(p.b.m, n), total += n)
        if (buf_append(&rest, out, n) < 0)
            r = -ENOMEM;
    size_t at = 0;
    for (ssize_t len; at < rest.len && (len = frame_parse(rest.data + at, rest.len - at, &f, &why)) > 0;)
        at += (size_t)len;
    ok(total > 1 << 20 && at == rest.len && f.type == FRAME_BYE, "what was queued goes out whole, the bye last");
}

/* One allocation fails at each place in turn, then all from there on: streams may be lost, never
 * bytes within one, and never the sides' agreement. */
static bool mux_torture_one(long k, bool on, bool *ret_reached)
{
    CLEAN_PAIR struct pair p;
    pair_init(&p);
    failed = 0;
    fail_at = k;
    fail_on = on;
    uint32_t stream[4];
    uint64_t sent[4] = {0}, back[4] = {0};
    bool good = true;
    for (int i = 0; i < 4; i++) {
        stream[i] = open_stream(&p.a);
        for (int j = 0; j < 6 && stream[i]; j++) {
            int r = send_some(&p.a, stream[i], &sent[i], 20000);
            good &= r == 0 || r == -ENOMEM || r == -EPIPE || r == -EAGAIN;
            if (r == -ENOMEM)
                mux_reset(p.a.m, stream[i], "out of memory");
        }
    }
    (void)settle(&p, 8192);
    for (int i = 0; i < 4; i++)
        if (stream[i] && mux_has(p.b.m, stream[i]))
            (void)send_some(&p.b, stream[i], &back[i], 3000);
    if (stream[0])
        mux_reset(p.a.m, stream[0], "test");
    mux_close(p.a.m, stream[1]);
    (void)settle(&p, 8192);
    *ret_reached = failed > 0;
    fail_at = -1;
    fail_on = false;
    int r = settle(&p, 8192); /* with memory again, all goes on or is cut in words */
    good &= r == 0 || *mux_problem(p.a.m) || *mux_problem(p.b.m);
    for (int i = 0; i < 4 && r == 0; i++) {
        good &= mux_has(p.a.m, stream[i]) == mux_has(p.b.m, stream[i]);
        if (mux_has(p.a.m, stream[i]))
            good &= p.b.got[stream[i]] == sent[i] && p.a.got[stream[i]] == back[i];
    }
    return good && !p.a.damaged && !p.b.damaged;
}

static void mux_torture(void)
{
    for (int on = 0; on < 2; on++) {
        bool good = true;
        long k = 0;
        for (bool reached = true; reached && k < 2000; k++)
            good &= mux_torture_one(k, on, &reached);
        ok(good && k > 20 && k < 2000, "the multiplexer survives %s (%ld places)",
           on ? "running out of memory" : "an allocation that fails", k);
    }
    int refused = 0;
    for (int k = 0; k < 10; k++) {
        fail_at = k;
        struct mux *m = mux_new(true, &side_events, NULL);
        refused += m == NULL;
        mux_free(m);
    }
    fail_at = -1;
    ok(refused == 3, "it is not born without its buffers");
}

int main(void)
{
    mux_life();
    static const size_t pieces[] = {1, 7, 4096, FRAME_MAX_SIZE + 1, 1 << 20};
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++)
        mux_many(pieces[i]);
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++)
        mux_drained(pieces[i]);
    mux_refuses_more();
    mux_small_window();
    mux_slow_reader();
    mux_fair();
    mux_resets();
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++)
        mux_strictness(&scripts[i]);
    mux_window_violation();
    mux_answer_flood();
    mux_torture();
    return tap_end();
}
