/* What a network process keeps to: words of limits, bytes a second, and a card that has such a rate. */
#include "tap.h"

#include "base/clock.h"
#include "host/os.h"
#include "net/limits.h"
#include "net/link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t in[LINK_FRAME_MAX];

static void test_words(void)
{
    struct limits l = {0};
    char text[LIMITS_TEXT];
    limits_format(&l, text);
    ok(!*text, "without a limit there is no word");
    ok(limits_add_words(&l, "rate=4096/0 connections=10 queries=7 connections=12", NULL) == 0 && l.connections == 12,
       "the last word of a name counts");
    limits_format(&l, text);
    ok(strcmp(text, "rate=4096/0 connections=12 queries=7") == 0, "limits are written as they are read: %s", text);
    ok(limits_is_word("rate=1/1") && !limits_is_word("@public") && !limits_is_word("*.example.org:443/tcp"),
       "a limit is told from a rule");
    static const char *const bad[] = {
        "rate=1",     "rate=1/2x", "rate=/", "connections=", "connections=65537", "queries=10001",
        "queries=-1", "speed=1",   "=",      "rate=1/2/3"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        ok(limits_add_word(&l, bad[i], &e) == -EINVAL && strstr(e.msg, bad[i]) && l.queries == 7, "'%s' is none",
           bad[i]);
    }
}

/* How many frames of n bytes pass in so many ns, each as soon as it may. */
static unsigned passes(struct rate *r, size_t n, uint64_t from, uint64_t ns)
{
    unsigned frames = 0;
    for (uint64_t now = from, at; now <= from + ns; now = MAX_OF(now, at), frames++) {
        rate_spend(r, RATE_IN, n, now);
        at = rate_at(r, RATE_IN);
        if (at > from + ns)
            break;
    }
    return frames;
}

static void test_rate(void)
{
    struct rate r = {.limit = {[RATE_IN] = 1000000}};
    uint64_t start = 1000 * NSEC_PER_SEC;
    unsigned n = passes(&r, 1000, start, 10 * NSEC_PER_SEC);
    ok(n >= 10099 && n <= 10101, "in ten seconds as much passes as in ten seconds, and a tenth (%u)", n);
    start += 3600 * NSEC_PER_SEC;
    n = passes(&r, 1000, start, NSEC_PER_SEC);
    ok(n >= 1099 && n <= 1101, "an hour without frames saves no more than that tenth (%u)", n);
    start += 3600 * NSEC_PER_SEC;
    rate_spend(&r, RATE_IN, 500000, start);
    ok(rate_at(&r, RATE_IN) == start + 400 * NSEC_PER_MSEC, "what is larger passes whole, and is waited for");
    rate_spend(&r, RATE_OUT, 500000, start);
    ok(rate_at(&r, RATE_OUT) == 0, "a direction without a limit never waits");
}

static void test_card(void)
{
    static struct link l;
    static uint8_t frame[20000];
    int pair[2];
    uint64_t next, now;
    if (os_datagram_pair(pair) < 0)
        abort();
    link_init(&l, pair[0]);
    l.rate.limit[RATE_IN] = l.rate.limit[RATE_OUT] = 4096;
    link_send(&l, frame, sizeof(frame));
    ok(l.sent == sizeof(frame) && !link_is_behind(&l), "a first frame goes at once");
    link_send(&l, frame, sizeof(frame));
    ok(l.sent == sizeof(frame) && l.lost == 0 && link_is_behind(&l),
       "the next one waits for its time, and is not lost");
    link_flush(&l);
    ok(l.sent == sizeof(frame), "it is not hurried");
    now = clock_now();
    ok(link_events(&l, now, &next) == POLLIN && next > now + NSEC_PER_SEC && next < now + 6 * NSEC_PER_SEC,
       "the guest may send meanwhile");
    ok(link_events(&l, next, &next) == (POLLIN | POLLOUT) && next == 0, "and at that time it goes");
    for (int i = 0; i < 2; i++)
        if (send(pair[1], frame, sizeof(frame), 0) < 0)
            abort();
    ok(link_receive(&l, in) == (int)sizeof(frame) && link_receive(&l, in) == 0, "of the guest's frames one is taken");
    ok(link_events(&l, now, &next) == 0 && next > now, "and none waited for until its time");
    l.rate.paid[RATE_IN] = l.rate.paid[RATE_OUT] = 0;
    link_flush(&l);
    ok(l.sent == 2 * sizeof(frame) && link_receive(&l, in) == (int)sizeof(frame), "what waited goes on, whole");
    link_done(&l);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    test_words();
    test_rate();
    test_card();
    return tap_end();
}
