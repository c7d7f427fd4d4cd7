/* The supervisor's switchboard and the queue behind it (supervisor/router.h, outqueue.h): no I/O, so all is seen here.
 */
#include "tap.h"

#include "supervisor/frame_cost.h"
#include "supervisor/outqueue.h"
#include "supervisor/router.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <errno.h>
#include <string.h>

/* ---- Queue ---- */

static size_t blocks(const struct outqueue *q)
{
    size_t n = 0;
    for (const struct block *b = q->first; b; b = b->next)
        n++;
    return n;
}

static void test_queue(void)
{
    struct outqueue q = {0}, more = {0};
    uint8_t byte[40000];
    memset(byte, 'x', sizeof(byte));
    bool added = true;
    ok(outqueue_take(&q) == NULL && q.bytes == 0, "an empty queue has no block");
    for (unsigned i = 0; i < 16384; i++)
        added &= outqueue_add(&q, byte, 1);
    ok(added && q.bytes == 16384 && blocks(&q) == 1, "16,384 single bytes are one block");
    ok(outqueue_add(&q, byte, 40000) && q.bytes == 56384 && blocks(&q) == 2, "what is larger than a block is another");
    struct block *first = outqueue_take(&q);
    ok(first && first->len == 16384 && outqueue_take(&q) == first, "the first block stays until it is dropped");
    outqueue_drop(&q);
    ok(q.bytes == 40000 && outqueue_take(&q)->len == 40000, "the second block follows");
    ok(outqueue_add(&q, "ab", 2) && blocks(&q) == 2 && q.first->len == 40000,
       "nothing is added to a block that is being written");
    outqueue_drop(&q);
    ok(q.bytes == 2 && outqueue_add(&q, "c", 1) && blocks(&q) == 1 && memcmp(q.first->data, "abc", 3) == 0,
       "a block that is not written takes more");
    outqueue_append(&q, &more);
    ok(q.bytes == 3 && blocks(&q) == 1, "an empty queue appended changes nothing");
    ok(outqueue_add(&more, "de", 2), "(another queue)");
    outqueue_append(&q, &more);
    ok(q.bytes == 5 && blocks(&q) == 2 && more.bytes == 0 && !more.first && outqueue_add(&q, "f", 1) &&
           memcmp(q.last->data, "def", 3) == 0,
       "a queue appended is taken over, and goes on at its end");
    outqueue_done(&q);
    ok(!q.first && !q.last && q.bytes == 0 && outqueue_add(&q, "g", 1) && q.bytes == 1,
       "a queue is used anew after its end");
    outqueue_done(&q);
}

/* ---- Router ---- */

static struct {
    struct buf guest, clients[2];
    unsigned messages, local;
    bool refuse_message;
} sent = {.guest = BUF_INIT(64 << 20), .clients = {BUF_INIT(64 << 20), BUF_INIT(64 << 20)}};

static void to_guest(void *data, const void *p, size_t n)
{
    (void)!buf_append(&sent.guest, p, n);
}

static void to_client(void *data, void *client, const void *p, size_t n)
{
    (void)!buf_append(client, p, n);
}

static int guest_message(void *data, const void *p, size_t n)
{
    sent.messages++;
    return sent.refuse_message ? -EPROTO : 0;
}

/* Requests that begin with 'L' are the supervisor's own. */
static bool local(void *data, void *client, uint32_t stream, const void *p, size_t n)
{
    bool own = n && *(const char *)p == 'L';
    sent.local += own;
    return own;
}

static const struct router_ops ops = {to_guest, to_client, guest_message, local};

static void forget(void)
{
    buf_clear(&sent.guest);
    buf_clear(&sent.clients[0]);
    buf_clear(&sent.clients[1]);
}

/* Whether the next frame of b is of that type and stream, with that payload; it is taken out. */
static bool next_is(struct buf *b, uint8_t type, uint32_t stream, const char *payload)
{
    struct frame f;
    const char *why;
    ssize_t n = frame_parse(b->data, b->len, &f, &why);
    bool same = n > 0 && f.type == type && f.stream == stream &&
                (!payload || (f.len == strlen(payload) && memcmp(f.payload, payload, f.len) == 0));
    if (n > 0)
        buf_drop(b, (size_t)n);
    return same;
}

/* A router with a guest and two clients. */
static struct router *fresh(bool small, struct router_client *clients[2])
{
    struct router *r = router_new(&ops, NULL);
    forget();
    router_set_guest(r, true, NULL);
    router_set_small_windows(r, small);
    for (unsigned i = 0; i < 2; i++)
        clients[i] = router_add_client(r, &sent.clients[i]);
    return r;
}

/* One frame from the guest (client NULL) or a client: NULL, or why its sender is cut off. "waits" where it has to. */
static const char *send(struct router *r, struct router_client *c, uint8_t type, uint32_t stream, const void *p,
                        uint32_t n)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_SIZE);
    const char *why = NULL;
    bool waits = false;
    if (frame_append(&b, type, stream, 0, p, n) < 0)
        abort();
    ssize_t used =
        c ? router_from_client(r, c, b.data, b.len, &waits, &why) : router_from_guest(r, b.data, b.len, &why);
    if (waits)
        return used == 0 ? "waits" : "waits, and was taken";
    return used == (ssize_t)b.len ? NULL : why ? why : "not taken";
}

static const char *text(struct router *r, struct router_client *c, uint8_t type, uint32_t stream, const char *s)
{
    return send(r, c, type, stream, s, (uint32_t)strlen(s));
}

static const char *window(struct router *r, struct router_client *c, uint32_t stream, uint32_t n)
{
    const uint8_t bytes[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    return send(r, c, FRAME_WINDOW, stream, bytes, 4);
}

static bool says(const char *got, const char *want)
{
    return got && strcmp(got, want) == 0;
}

static void test_two_clients(void)
{
    struct router_client *c[2];
    struct router *r = fresh(false, c);
    ok(!router_is_used(r) && !text(r, c[0], FRAME_OPEN, 1, "a") && !text(r, c[1], FRAME_OPEN, 1, "b") &&
           router_is_used(r) && next_is(&sent.guest, FRAME_OPEN, 1, "a") && next_is(&sent.guest, FRAME_OPEN, 3, "b"),
       "two clients' first streams get numbers of their own in the guest");
    ok(!text(r, NULL, FRAME_DATA, 3, "for b") && !text(r, NULL, FRAME_DATA, 1, "for a") &&
           next_is(&sent.clients[1], FRAME_DATA, 1, "for b") && next_is(&sent.clients[0], FRAME_DATA, 1, "for a"),
       "what the guest sends goes to the client that opened the stream, by its number");
    ok(!text(r, c[1], FRAME_DATA, 1, "in") && next_is(&sent.guest, FRAME_DATA, 3, "in"),
       "what a client sends goes to the guest's stream");
    ok(!text(r, NULL, FRAME_CLOSE, 1, "") && router_is_used(r) && !text(r, c[0], FRAME_DATA, 1, "still") &&
           !text(r, c[0], FRAME_CLOSE, 1, ""),
       "a stream closed by the guest still takes what the client sends");
    forget();
    ok(!text(r, NULL, FRAME_DATA, 1, "late") && sent.clients[0].len == 0,
       "a stream closed by both is gone: what comes late for it is dropped");
    router_remove_client(r, c[1]);
    forget();
    ok(!router_is_used(r), "a client that leaves takes its streams along");
    router_free(r);
}

static void test_gone(void)
{
    struct router_client *c[2];
    struct router *r = fresh(false, c);
    ok(!text(r, c[0], FRAME_OPEN, 1, "a") && !text(r, c[1], FRAME_OPEN, 5, "b"), "(two streams)");
    forget();
    router_remove_client(r, c[0]);
    ok(next_is(&sent.guest, FRAME_RESET, 1, "the client went away") && sent.guest.len == 0,
       "a client that leaves has its streams, and no others, reset in the guest");
    router_set_guest(r, false, "the guest ended");
    ok(next_is(&sent.clients[1], FRAME_RESET, 5, "the guest ended") && !router_is_used(r),
       "a guest that ends has each stream reset in its client, with the reason");
    ok(!text(r, c[1], FRAME_OPEN, 7, "c") &&
           next_is(&sent.clients[1], FRAME_RESET, 7, "the guest's agent is not ready"),
       "while there is no guest a stream is reset at once");
    ok(!text(r, c[1], FRAME_OPEN, 9, "Local") && sent.local == 1 && sent.clients[1].len == 0,
       "what the supervisor answers itself needs no guest");
    router_free(r);
    router_free(NULL);
}

static void test_hostile_client(void)
{
    struct router_client *c[2];
    struct router *r = fresh(false, c);
    ok(says(text(r, c[0], FRAME_OPEN, 2, "a"), "stream number out of order"), "a client opens odd streams only");
    ok(!text(r, c[0], FRAME_OPEN, 5, "a") && says(text(r, c[0], FRAME_OPEN, 5, "a"), "stream number out of order") &&
           says(text(r, c[0], FRAME_OPEN, 3, "a"), "stream number out of order"),
       "a client's stream numbers rise");
    ok(says(text(r, c[0], FRAME_DATA, 7, "a"), "frame for a stream that was never opened"),
       "a client sends on no stream that it has not opened");
    ok(!text(r, c[0], FRAME_DATA, 3, "a"), "what a client sends on a stream that is gone is dropped");
    ok(says(text(r, c[0], FRAME_MSG, 0, "a"), "clients have no messages on stream 0"), "a client has no messages");
    ok(says(text(r, c[0], FRAME_BYE, 0, "a"), "goodbye"), "a client says goodbye");
    ok(says(window(r, c[0], 5, 1), "window for data that never came"), "a client gives back no more than it got");
    ok(says(window(r, c[0], 5, 0), "window for data that never came"), "a client gives back something or is silent");
    ok(says(window(r, c[0], 5, UINT32_MAX), "window for data that never came"), "a huge window overflows nothing");
    ok(!text(r, c[0], FRAME_CLOSE, 5, "") && says(text(r, c[0], FRAME_CLOSE, 5, ""), "closed twice") &&
           says(text(r, c[0], FRAME_DATA, 5, "a"), "data after close"),
       "a client closes once, and sends nothing afterwards");
    ok(!text(r, c[1], FRAME_OPEN, 1, "b") && !text(r, NULL, FRAME_DATA, 3, "out"),
       "another client's stream goes on meanwhile");
    uint8_t garbage[64];
    bool waits = false;
    const char *why = NULL;
    memset(garbage, 0xff, sizeof(garbage));
    ok(router_from_client(r, c[1], garbage, sizeof(garbage), &waits, &why) == -EPROTO && why && !waits,
       "bytes that are no frame have a reason");
    router_free(r);
}

static void test_client_window(void)
{
    struct router_client *c[2];
    struct router *r = fresh(false, c);
    CLEAN_FREE uint8_t *zeros = calloc(1, FRAME_MAX_PAYLOAD);
    const char *why = NULL;
    (void)text(r, c[0], FRAME_OPEN, 1, "a");
    unsigned taken = 0;
    while (!(why = send(r, c[0], FRAME_DATA, 1, zeros, FRAME_MAX_PAYLOAD)))
        taken++;
    ok(taken == MUX_WINDOW / FRAME_MAX_PAYLOAD && says(why, "more data than the window allows"),
       "a client sends its window and no more");
    router_free(r);
    r = fresh(false, c);
    (void)text(r, c[0], FRAME_OPEN, 1, "a");
    ok(!send(r, c[0], FRAME_DATA, 1, zeros, 5000) && !window(r, NULL, 1, 5000) &&
           says(window(r, NULL, 1, 1), "window for data that never came"),
       "the guest gives back what it got and no more");
    router_free(r);
}

static void test_hostile_guest(void)
{
    struct router_client *c[2];
    struct router *r = fresh(false, c);
    ok(!text(r, NULL, FRAME_OPEN, 2, "a") && next_is(&sent.guest, FRAME_RESET, 2, "the host serves no requests"),
       "a stream that the guest opens is reset");
    ok(says(text(r, NULL, FRAME_DATA, 1, "a"), "frame for a stream that was never opened"),
       "the guest sends on no stream that was not opened");
    ok(says(text(r, NULL, FRAME_BYE, 0, "x"), "the agent ended the connection"), "the agent says goodbye");
    ok(text(r, NULL, FRAME_DATA, 0, "x") && text(r, NULL, FRAME_CLOSE, 0, ""), "stream 0 has no data");
    ok(!text(r, NULL, FRAME_MSG, 0, "m") && sent.messages == 1, "the guest's messages are handed over");
    sent.refuse_message = true;
    ok(says(text(r, NULL, FRAME_MSG, 0, "m"), "message that cannot be understood"),
       "a message that is refused is its end");
    sent.refuse_message = false;
    ok(!text(r, c[0], FRAME_OPEN, 1, "a") && !text(r, NULL, FRAME_CLOSE, 1, "") &&
           says(text(r, NULL, FRAME_DATA, 1, "x"), "data after close"),
       "the guest sends nothing on a stream that it closed");
    router_free(r);

    /* Two good frames, then a bad one, in one read: the good ones arrive before the guest is cut off. */
    r = fresh(false, c);
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    const char *why = NULL;
    (void)text(r, c[0], FRAME_OPEN, 1, "a");
    ok(frame_append(&b, FRAME_DATA, 1, CHAN_OUT, "one", 3) == 0 &&
           frame_append(&b, FRAME_DATA, 1, CHAN_OUT, "two", 3) == 0 &&
           frame_append(&b, FRAME_DATA, 9, CHAN_OUT, "bad", 3) == 0 &&
           router_from_guest(r, b.data, b.len, &why) == -EPROTO && next_is(&sent.clients[0], FRAME_DATA, 1, "one") &&
           next_is(&sent.clients[0], FRAME_DATA, 1, "two"),
       "what came before a broken frame still arrives");
    buf_clear(&b);
    ok(frame_append(&b, FRAME_DATA, 1, CHAN_OUT, "one", 3) == 0 && router_from_guest(r, b.data, b.len - 1, &why) == 0 &&
           sent.clients[0].len == 0,
       "a frame that is not whole is left for later");
    router_free(r);
}

static void test_room(void)
{
    struct router_client *c[2];
    struct router *r = fresh(false, c);
    unsigned n = 0;
    while (n < 1000 && !text(r, c[0], FRAME_OPEN, 2 * n + 1, "a"))
        n++;
    ok(n == ROUTER_STREAMS_OLD && says(text(r, c[0], FRAME_OPEN, 2 * n + 1, "a"), "waits") && !router_has_room(r),
       "of an agent with large windows %d streams are open at a time; the next one waits", ROUTER_STREAMS_OLD);
    ok(!text(r, c[1], FRAME_OPEN, 1, "Local"), "what the supervisor answers itself never waits");
    ok(!text(r, NULL, FRAME_RESET, 1, "") && router_has_room(r) && !text(r, c[0], FRAME_OPEN, 2 * n + 1, "a"),
       "a stream that waited is opened when another one has ended");
    router_free(r);
    r = fresh(true, c);
    for (n = 0; n < 1000 && !text(r, c[0], FRAME_OPEN, 2 * n + 1, "a");)
        n++;
    ok(n == ROUTER_STREAMS, "of an agent with small windows %d are open at a time", ROUTER_STREAMS);
    router_free(r);
}

/* What the guest may send in all: first windows and what they were enlarged by. */
static void test_grants(void)
{
    struct router_client *c[2];
    struct router *r = fresh(true, c);
    uint64_t granted = 0;
    for (unsigned i = 0; i < ROUTER_STREAMS; i++)
        (void)text(r, c[0], FRAME_OPEN, 2 * i + 1, "a");
    struct frame f;
    const char *why;
    unsigned extra = 0;
    for (ssize_t n; (n = frame_parse(sent.guest.data, sent.guest.len, &f, &why)) > 0;
         buf_drop(&sent.guest, (size_t)n)) {
        granted += f.type == FRAME_OPEN ? ROUTER_WINDOW : MUX_WINDOW - ROUTER_WINDOW;
        extra += f.type == FRAME_WINDOW;
    }
    ok(granted <= ROUTER_GRANTS && extra > 0,
       "all streams together are granted at most 24 MiB (%u of them more at once)", extra);
    ok(!text(r, NULL, FRAME_RESET, 1, ""), "(one that had more ends)");
    (void)text(r, c[0], FRAME_OPEN, 2 * ROUTER_STREAMS + 1, "a");
    ok(next_is(&sent.guest, FRAME_OPEN, 2 * ROUTER_STREAMS + 1, NULL) &&
           next_is(&sent.guest, FRAME_WINDOW, 2 * ROUTER_STREAMS + 1, NULL),
       "what a stream had more goes to the next one");
    router_free(r);
}

static void test_cost(void)
{
    struct router_client *c[2];
    struct router *r = fresh(false, c);
    (void)text(r, c[0], FRAME_OPEN, 1, "a");
    ok(router_cost(r) == 0, "what clients send costs the guest nothing");
    (void)text(r, NULL, FRAME_OPEN, 2, "");
    uint64_t open = router_cost(r);
    ok(open > 1 && router_cost(r) == 0, "a stream that the guest opens costs more than a frame, and once");
    CLEAN_BUF struct buf m = BUF_INIT(4096);
    const struct msg_log line = {.text = "line"};
    ok(msg_log_encode(&m, &line) == 0 && !send(r, NULL, FRAME_MSG, 0, m.data, (uint32_t)m.len) && router_cost(r) == 1,
       "a line of log costs one frame");
    ok(msg_begin(&m, MSG_QUIESCED) == 0 && !send(r, NULL, FRAME_MSG, 0, m.data, (uint32_t)m.len) &&
           router_cost(r) == 100,
       "a message that comes rarely costs what it may set going");
    ok(!text(r, NULL, FRAME_DATA, 1, "x") && router_cost(r) == 0, "data of an open stream costs nothing");
    CLEAN_FREE uint8_t *zeros = calloc(1, 10 * 4096);
    router_free(r);

    r = fresh(false, c);
    (void)text(r, c[0], FRAME_OPEN, 1, "a");
    (void)text(r, c[0], FRAME_DATA, 1, "0123456789");
    (void)send(r, NULL, FRAME_DATA, 1, zeros, 10 * 4096);
    for (unsigned i = 0; i < 10; i++)
        (void)window(r, NULL, 1, 1);
    ok(router_cost(r) == 0, "windows are paid for by what the guest moves");
    router_free(r);

    r = fresh(false, c);
    (void)text(r, c[0], FRAME_OPEN, 1, "a");
    (void)text(r, c[0], FRAME_RESET, 1, "");
    for (unsigned i = 0; i < 10; i++)
        (void)text(r, NULL, FRAME_DATA, 1, "late");
    ok(router_cost(r) == 10, "data of a stream that is gone costs a frame each");
    (void)send(r, NULL, FRAME_DATA, 1, zeros, 10 * 512);
    ok(router_cost(r) == 11, "and as many more as it is long");
    router_free(r);
}

/* ---- Published ports ---- */

static const char *publish(struct router *r, struct router_client *c, uint32_t stream, uint64_t window)
{
    CLEAN_BUF struct buf m = BUF_INIT(256);
    if (msg_connect_encode(&m, &(struct msg_connect){.port = 80, .protocol = 6, .window = window}) < 0)
        abort();
    return send(r, c, FRAME_OPEN, stream, m.data, (uint32_t)m.len);
}

static void test_publisher(void)
{
    static uint8_t bytes[FRAME_MAX_PAYLOAD];
    struct router_client *clients[2];
    struct router *r = fresh(true, clients);
    struct router_client *own = router_add_publisher(r, &sent.clients[1]);
    bool good = router_guest_is_up(r);
    for (uint32_t i = 0; i < 200; i++)
        good &= publish(r, own, 2 * i + 1, 32768) == NULL;
    ok(good && router_has_room(r) && router_is_used(r), "200 published streams take no client's room");
    forget();
    ok(text(r, clients[0], FRAME_OPEN, 1, "exec") == NULL && next_is(&sent.guest, FRAME_OPEN, 401, "exec"),
       "a client's stream is opened besides");
    forget();
    ok(send(r, NULL, FRAME_DATA, 1, bytes, 32768) == NULL, "the guest may send a published stream's window");
    ok(says(send(r, NULL, FRAME_DATA, 1, bytes, 1), "more data than the window allows"), "and not a byte more");
    router_free(r);
    r = fresh(true, clients);
    own = router_add_publisher(r, &sent.clients[1]);
    ok(publish(r, own, 1, 32768) == NULL && send(r, own, FRAME_DATA, 1, bytes, 100) == NULL &&
           window(r, NULL, 1, 100) == NULL,
       "the guest gives back what came");
    ok(says(window(r, NULL, 1, 1), "window for data that never came"), "a published stream's window does not grow");
    router_remove_client(r, own);
    ok(!router_is_used(r), "a publisher's streams end with it");
    router_set_guest(r, false, "gone");
    ok(!router_guest_is_up(r), "a guest that is gone cannot be reached");
    router_free(r);
}

/* What frames cost by themselves: test_cost has what a router charges. */
static void test_frame_cost(void)
{
    struct frame_cost c = {0};
    const struct frame data = {.type = FRAME_DATA, .len = 40960}, close = {.type = FRAME_CLOSE},
                       open = {.type = FRAME_OPEN, .len = 1024};
    frame_cost_charge(&c, &close, true);
    ok(frame_cost_take(&c, 0) == 1 && frame_cost_take(&c, 0) == 0, "a small frame costs one, once");
    frame_cost_charge(&c, &open, false);
    ok(frame_cost_take(&c, 0) == 10, "a request costs its answer, and a large frame more");
    frame_cost_charge(&c, &data, true);
    frame_cost_charge(&c, &open, false);
    ok(frame_cost_take(&c, 0) == 0, "what an open stream moves pays for other frames");
    frame_cost_charge(&c, &data, true);
    (void)frame_cost_take(&c, 8192);
    frame_cost_charge(&c, &open, false);
    ok(frame_cost_take(&c, 0) == 8, "what is left of it counts later, up to a bound");
    frame_cost_charge(&c, &data, false);
    ok(frame_cost_take(&c, 0) == 81, "payload of a stream that is not open pays for nothing");
}

int main(void)
{
    test_frame_cost();
    test_queue();
    test_two_clients();
    test_gone();
    test_hostile_client();
    test_client_window();
    test_hostile_guest();
    test_room();
    test_grants();
    test_cost();
    buf_done(&sent.guest);
    buf_done(&sent.clients[0]);
    buf_done(&sent.clients[1]);
    test_publisher();
    return tap_end();
}
