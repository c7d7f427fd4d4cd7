/* A network process's parts that do I/O: card, resolvers, queries on their way, libslirp; and how a supervisor orders
 * one and hears it. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "host/handover.h"
#include "host/os.h"
#include "net/layout.h"
#include "net/link.h"
#include "net/own_address.h"
#include "net/packet.h"
#include "net/peers.h"
#include "net/process.h"
#include "net/stack.h"
#include "net/upstream.h"
#include "supervisor/launch_network.h"
#include "supervisor/membership.h"
#include "supervisor/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint8_t in[LINK_FRAME_MAX];

/* ---- The card ---- */

static void test_link(void)
{
    static struct link l;
    static uint8_t frame[LINK_FRAME_MAX + 1];
    int pair[2];
    if (os_datagram_pair(pair) < 0)
        abort();
    link_init(&l, pair[0]);
    ok(link_receive(&l, in) == 0, "a card without a frame has none");
    ok(send(pair[1], frame, 65534, 0) == 65534 && link_receive(&l, in) == 65534, "a frame as long as any comes whole");
    link_send(&l, frame, LINK_FRAME_MAX + 1);
    ok(l.sent == 0 && !l.first, "a longer one is not sent");
    unsigned sent = 0;
    while (!link_is_behind(&l) && sent < 1000) {
        memcpy(frame, &sent, sizeof(sent));
        link_send(&l, frame, 9000);
        sent++;
    }
    ok(link_is_behind(&l) && l.lost == 0, "a guest that takes nothing is said to be behind (%u frames)", sent);
    unsigned got = 0, at = 0;
    bool ordered = true;
    while (recv(pair[1], frame, sizeof(frame), MSG_DONTWAIT) > 0) {
        memcpy(&at, frame, sizeof(at));
        ordered &= at == got++;
        link_flush(&l);
    }
    ok(ordered && got == sent && !l.first, "when it takes frames again it gets all of them, in order");
    for (unsigned i = 0; i < 2000; i++)
        link_send(&l, frame, 9000);
    ok(l.lost > 0 && l.waiting <= 8u << 20, "what waits is bounded, the rest is lost and counted");
    link_done(&l);
    close(pair[0]);
    close(pair[1]);
}

/* ---- Members of its network ---- */

static int introduced(int launcher, uint32_t member, const char *name)
{
    struct peers_introduction i = {.member = member};
    int pair[2];
    if (os_packet_pair(pair) < 0)
        abort();
    snprintf(i.name, sizeof(i.name), "%s", name);
    const struct handover p = {.data = &i, .size = sizeof(i), .fds = {pair[1]}, .n_fds = 1};
    if (handover_send(launcher, &p) < 0)
        abort();
    close(pair[1]);
    return pair[0];
}

static void test_peers(void)
{
    static struct peers p;
    static uint8_t frame[9000];
    struct pollfd fds[PEERS_FDS];
    unsigned who[PEERS_FDS];
    char word[64], name[128];
    int launcher[2];
    static const char *const wrong[] = {"+",        "+3:0:app:web",   "+3:33:app:web",
                                        "+3:1:app", "+3:1:app:web:x", "+3:1::web"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        ok(peers_init(&p, wrong[i]) == -EINVAL, "%s is no place in a network", wrong[i]);
    if (os_packet_pair(launcher) < 0)
        abort();
    snprintf(word, sizeof(word), "+%d:1:app:web", launcher[1]);
    ok(peers_init(&p, word) == 0 && peers_fill(&p, fds, who, false, 0) == 1 && who[0] == 0, "introductions are heard");
    int db = introduced(launcher[0], 2, "db");
    ok(peers_hear(&p, 0) && p.present == 1 << 2 && peers_find(&p, "db") == 2, "a member is introduced");
    close(introduced(launcher[0], 1, "me"));
    close(introduced(launcher[0], 33, "x"));
    close(introduced(launcher[0], 3, "../x"));
    ok(!peers_hear(&p, 0) && !peers_hear(&p, 0) && !peers_hear(&p, 0) && p.present == 1 << 2,
       "not with the VM's own number, one beyond, or what is no name");
    peers_send(&p, 2, frame, 60);
    peers_send(&p, 3, frame, 60);
    ok(recv(db, frame, sizeof(frame), MSG_DONTWAIT) == 60, "it gets what is sent to it");
    for (unsigned i = 0; i < 1000; i++)
        peers_send(&p, 2, frame, sizeof(frame));
    ok(p.v[2].link.lost > 0 && p.v[2].link.waiting <= PEERS_QUEUE, "what it does not take waits up to a bound");
    unsigned got = 0;
    for (unsigned i = 0; i < PEERS_RATE + 100; i++) {
        if (send(db, frame, 60, MSG_DONTWAIT) != 60)
            abort();
        got += peers_receive(&p, 2, 1, in) == 60;
    }
    ok(got == PEERS_RATE && peers_next(&p, 1) > 1, "who sends more than the rate is not listened to for a while");
    bool listens = true;
    for (size_t i = 0, n = peers_fill(&p, fds, who, false, 1); i < n; i++)
        listens &= who[i] != 2 || fds[i].events & POLLIN;
    ok(!listens && peers_receive(&p, 2, NSEC_PER_SEC, in) == 60 && peers_next(&p, NSEC_PER_SEC) == 0,
       "and then heard again");
    int other = introduced(launcher[0], 2, "db2");
    ok(peers_hear(&p, 0) && peers_find(&p, "db") == 0 && peers_full_name(&p, 2, name, sizeof(name)) &&
           strcmp(name, "db2.app.mvm.internal") == 0,
       "another one may follow with its number (%s)", name);
    close(other);
    ok(peers_receive(&p, 2, NSEC_PER_SEC, in) < 0 && p.present == 0 && !peers_full_name(&p, 2, name, sizeof(name)),
       "one that ends is gone");
    close(db);
    close(launcher[0]);
    ok(!peers_hear(&p, 0) && p.fd == -1 && peers_fill(&p, fds, who, false, 0) == 0, "the launcher's end ends it");
    peers_done(&p);
}

/* What a network process hears of a member, -1 where it hears nothing: the number, and the end of a wire. */
static int hears(int fd, int *ret_wire)
{
    struct peers_introduction i = {0};
    struct handover p = {.data = &i, .size = sizeof(i)};
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, 0) != 1 || handover_receive(fd, &p) < 0 || p.n_fds != 1)
        return -1;
    *ret_wire = p.fds[0];
    return (int)i.member;
}

static struct runfile *member(const char *folder, unsigned number, const char *name)
{
    struct runfile *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    snprintf(r->name, sizeof(r->name), "%s", name);
    snprintf(r->member_of, sizeof(r->member_of), "app");
    snprintf(r->network_folder, sizeof(r->network_folder), "%s", folder);
    r->member = number;
    return r;
}

/* What is to be done by a launcher. */
static void serve_members(struct membership *m)
{
    struct pollfd fds[MEMBERSHIP_FDS];
    size_t n = membership_fill(m, fds);
    if (poll(fds, n, 0) > 0)
        membership_serve(m, fds, n);
}

static void test_membership(void)
{
    static struct membership db, web, alone;
    struct runfile nothing = {0};
    const char *folder = tap_folder();
    CLEAN_FREE struct runfile *one = member(folder, 1, "db"), *two = member(folder, 2, "web");
    struct mvm_error e = MVM_ERROR_INIT;
    char left[600], frame[8];
    int hear, db_hears, web_hears, again, to_web, to_db, wire;
    membership_init(&alone, &nothing);
    ok(membership_offer(&alone, &hear, &e) == 0 && hear == -1, "a VM of no network joins none");
    snprintf(left, sizeof(left), "%s/7-gone", folder);
    close(open(left, O_CREAT | O_CLOEXEC, 0600));
    membership_init(&db, one);
    membership_init(&web, two);
    ok(membership_offer(&db, &db_hears, &e) == 0 && access(left, F_OK) < 0,
       "the first joins, and takes away what one left that was killed (%s)", e.msg);
    ok(membership_offer(&web, &web_hears, &e) == 0 && hears(web_hears, &to_db) == 1,
       "the second hears of the first (%s)", e.msg);
    serve_members(&db);
    ok(hears(db_hears, &to_web) == 2, "and the first of the second");
    ok(send(to_web, "frame", 5, 0) == 5 && recv(to_db, frame, sizeof(frame), 0) == 5, "there is a wire between them");
    close(db_hears);
    close(to_web);
    ok(send(to_db, "more", 4, 0) == 4 && membership_offer(&db, &again, &e) == 0 && hears(again, &to_web) == 2 &&
           recv(to_web, frame, sizeof(frame), MSG_DONTWAIT) == 4,
       "the network process that follows gets the same wire, and what is on it");
    membership_leave(&web);
    close(to_db);
    serve_members(&db);
    ok(db.v[2].fd == -1 && recv(to_web, frame, sizeof(frame), 0) == 0 && hears(again, &wire) == -1,
       "when a launcher and its process have ended, so has the wire");
    close(to_web);
    snprintf(left, sizeof(left), "%s/2-web", folder);
    ok(access(left, F_OK) < 0, "who leaves leaves no socket");
    membership_leave(&db);
    close(again);
    close(web_hears);
    snprintf(one->network_folder, sizeof(one->network_folder), "/nonexistent");
    ok(membership_offer(&db, &hear, &e) == -ENOENT && strstr(e.msg, "cannot join network 'app'"),
       "where it is gone: %s", e.msg);
}

/* ---- Resolvers ---- */

static uint16_t family(const struct resolvers *r, unsigned i)
{
    return r->v[i].address.ss_family;
}

static void parse(struct resolvers *r, const char *text)
{
    resolvers_parse(r, text, strlen(text));
}

static void test_resolvers(void)
{
    struct resolvers r = {.ask_fd = -1};
    int pair[2];
    parse(&r, "# none\nnameserver 127.0.0.53\noptions edns0\nnameserver\t2620:fe::9 \nnameserver 1.2.3\n"
              "nameserver fe80::1%1\nnameserver 9.9.9.9");
    ok(r.n == 3 && family(&r, 0) == AF_INET && family(&r, 1) == AF_INET6 && family(&r, 2) == AF_INET6,
       "the first three resolvers that have an address are taken, the host's loopback and zones too (%u)", r.n);
    parse(&r, "");
    ok(r.n == 1 && family(&r, 0) == AF_INET, "without any it is the host itself, as libc has it");
    if (os_packet_pair(pair) < 0)
        abort();
    r = (struct resolvers){.ask_fd = pair[0]};
    ok(!resolvers_ask(&r, 1) && resolvers_answer(pair[1]) && resolvers_hear(&r), "the launcher is asked, and answers");
    ok(!resolvers_ask(&r, 2) && !resolvers_hear(&r), "it is not asked twice in a second");
    ok(!resolvers_ask(&r, 2 * NSEC_PER_SEC) && resolvers_answer(pair[1]) && !resolvers_hear(&r),
       "the same answer as before is no news");
    close(pair[0]);
    ok(!resolvers_answer(pair[1]), "it sees that nobody asks any more");
    close(pair[1]);
}

/* ---- Queries on their way ---- */

static int serve(int type, struct resolver *ret)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) < 0 || (type == SOCK_STREAM && listen(fd, 1) < 0) ||
        getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        abort();
    *ret = (struct resolver){.len = n};
    memcpy(&ret->address, &a, n);
    return fd;
}

/* What the slot's socket has, once it is ready: as upstream_take says. */
static int wait_take(struct upstream *u, uint8_t out[static DNS_MAX_MESSAGE])
{
    struct pollfd p[ANSWERER_SLOTS];
    unsigned slots[ANSWERER_SLOTS];
    size_t n = upstream_fill(u, p, slots);
    if (n != 1 || poll(p, 1, 60000) != 1)
        return -ETIMEDOUT;
    return upstream_take(u, slots[0], out);
}

static void test_upstream(void)
{
    static struct upstream u;
    static uint8_t out[DNS_MAX_MESSAGE];
    struct resolver to;
    struct sockaddr_in from;
    socklen_t n = sizeof(from);
    char query[64];
    upstream_init(&u);
    int server = serve(SOCK_DGRAM, &to);
    ok(upstream_send(&u, 3, 0, &to, false, (const uint8_t *)"query", 5) == 0 &&
           recvfrom(server, query, sizeof(query), 0, (struct sockaddr *)&from, &n) == 5,
       "a query goes to the resolver");
    ok(sendto(server, "answer", 6, 0, (struct sockaddr *)&from, n) == 6 && wait_take(&u, out) == 6 &&
           memcmp(out, "answer", 6) == 0,
       "its answer comes back");
    close(server);
    ok(upstream_send(&u, 3, 0, &to, false, (const uint8_t *)"query", 5) == 0 && wait_take(&u, out) == -ECONNREFUSED,
       "where none listens that is said at once");
    server = serve(SOCK_STREAM, &to);
    ok(upstream_send(&u, 3, 0, &to, true, (const uint8_t *)"query", 5) == 0 && wait_take(&u, out) == 0,
       "a query goes over a connection, too");
    CLEAN_FD int conn = accept(server, NULL, NULL);
    ok(read(conn, query, sizeof(query)) == 7 && memcmp(query, "\0\5query", 7) == 0, "with its length before it");
    ok(write(conn, "\0\16", 2) == 2 && wait_take(&u, out) == 0 && write(conn, "a longer answer", 14) == 14 &&
           wait_take(&u, out) == 14 && memcmp(out, "a longer answe", 14) == 0,
       "an answer that comes in pieces is put together");
    close(server);
    upstream_done(&u);
}

/* ---- libslirp ---- */

static uint8_t last[2048];
static size_t last_len;

static void on_frame(void *owner, const void *p, size_t n)
{
    last_len = MIN_OF(n, sizeof(last));
    memcpy(last, p, last_len);
}

static void test_stack(void)
{
    static const struct stack_ops ops = {.frame = on_frame};
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56}, ip[4] = {10, 0, 2, 15};
    static struct stack s;
    const struct address own = layout_address(0);
    struct mvm_error e = MVM_ERROR_INIT;
    if (!libslirp_load(&e)) {
        printf("ok %u - libslirp is there # SKIP %s\n", ++tap_count, e.msg);
        return;
    }
    ok(stack_init(&s, false, &own, &ops, NULL, &e) == 0, "libslirp takes its settings (%s)", e.msg);
    stack_announce(&s, mac, ip);
    /* An echo request to the router, with both checksums. */
    uint8_t echo[42] = {0x52, 0x55, 10, 0,  2, 2, 0x52, 0x54, 0,    0x12, 0x34, 0x56, 8,  0,
                        0x45, 0,    0,  28, 0, 0, 0,    0,    64,   1,    0x62, 0xd1, 10, 0,
                        2,    15,   10, 0,  2, 2, 8,    0,    0xf7, 0xff, 0,    0,    0,  0};
    last_len = 0;
    stack_input(&s, echo, sizeof(echo));
    ok(last_len >= 42 && last[34] == 0 && memcmp(last, mac, 6) == 0,
       "the router answers a guest that has asked for nothing, because it was announced");
    struct pollfd none = {.fd = -1};
    ok(stack_poll(&s, &none, 1, false, 0) == 0, "a round ends when there is nothing to do");
    stack_done(&s);
}

/* ---- The supervisor's side ---- */

static char said[256];

static void on_log(void *owner, const char *text)
{
    snprintf(said, sizeof(said), "%s", text);
}

static void close_handle(uv_handle_t *h, void *arg)
{
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void test_network(void)
{
    static const struct network_ops ops = {.log = on_log};
    static struct network n;
    struct launcher l = LAUNCHER_INIT;
    uv_loop_t loop;
    int orders[2], card[2];
    char order;
    struct handover p = {.data = &order, .size = sizeof(order)};
    if (uv_loop_init(&loop) < 0 || os_packet_pair(orders) < 0 || os_datagram_pair(card) < 0)
        abort();
    l.network_fd = orders[0];
    l.network_frames_fd = card[0];
    ok(network_init(&n, &loop, &l, false, &ops, NULL) == 0 && uv_run(&loop, UV_RUN_NOWAIT) != 0 &&
           recv(orders[1], &order, 1, MSG_DONTWAIT) < 0,
       "no network process is ordered before the guest's card has sent a frame");
    static const uint8_t rarp[60] = {[12] = 0x80, 0x35}, own[42] = {[12] = 0x08, 0x06, [28] = 10, [38] = 10};
    uint8_t probe[86] = {[12] = 0x86, 0xdd, [20] = 58, [54] = 135}, join[90] = {[12] = 0x86, 0xdd};
    bool quiet = true;
    for (int i = 0; i < 3; i++) {
        quiet &= send(card[1], rarp, sizeof(rarp), 0) > 0 && send(card[1], own, sizeof(own), 0) > 0 &&
                 send(card[1], probe, sizeof(probe), 0) > 0 && send(card[1], join, sizeof(join), 0) > 0;
        uv_run(&loop, UV_RUN_ONCE);
    }
    ok(quiet && n.announced == 12 && recv(orders[1], &order, 1, MSG_DONTWAIT) < 0 &&
           recv(card[0], &order, 1, MSG_DONTWAIT) < 0,
       "nor for frames that ask for nothing (%u)", n.announced);
    ok(!packet_announces(rarp, 41) && packet_announces(own, 42) && !packet_announces(probe, 54),
       "what is cut announces nothing");
    ok(send(card[1], "frame", 5, 0) == 5 && uv_run(&loop, UV_RUN_ONCE) != 0 && handover_receive(orders[1], &p) == 0 &&
           p.n_fds == 2,
       "one is ordered with the first, and given the card and where to report");
    char frame[8];
    ok(recv(p.fds[0], frame, sizeof(frame), MSG_DONTWAIT) == 5, "which still has that frame");
    close(orders[1]);
    uv_run(&loop, UV_RUN_ONCE);
    ok(strstr(said, "the guest has no network"), "where it cannot be started that is said: %s", said);
    network_stop(&n);
    uv_walk(&loop, close_handle, NULL);
    ok(uv_run(&loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&loop) == 0, "when it is stopped nothing of it is left");
    for (size_t i = 0; i < p.n_fds; i++)
        close(p.fds[i]);
}

static void test_launch(void)
{
    struct runfile *run = calloc(1, sizeof(*run));
    struct mvm_error e = MVM_ERROR_INIT;
    struct jail_report jail;
    CLEAN_PROCESS struct process p = PROCESS_INIT;
    int card[2], report[2];
    char text[256] = "";
    if (!run || os_datagram_pair(card) < 0 || os_stream_pair(report) < 0)
        abort();
    snprintf(run->network, sizeof(run->network), "@listed example.org:443 host:80");
    snprintf(run->network_limits, sizeof(run->network_limits), "queries=5");
    snprintf(run->pcap, sizeof(run->pcap), "/dev/null");
    const struct network_ends ends = {.frames_fd = card[1], .report_fd = report[1], .resolv_fd = -1, .members_fd = -1};
    ok(launch_network(run, &ends, false, &p, &jail, &e) == 0, "a network process is started (%s)", e.msg);
    close(report[1]);
    size_t at = 0;
    for (ssize_t n; (n = read(report[0], text + at, sizeof(text) - 1 - at)) > 0;)
        at += (size_t)n;
    ok(strstr(text, "frames are not written to /dev/null"), "frames are written to no other file than one of ours");
    const char *told = strchr(text, '@');
    ok(told && strcmp(told, "@listed example.org:443 host:80 queries=5 ") == 0, "it is told what run.json allows: '%s'",
       text);
    close(report[0]);
    free(run);
}

/* This program again, as the network process of test_launch. */
static int be_network(int argc, char **argv)
{
    for (int i = 5; i < argc; i++)
        dprintf(atoi(argv[3]), "%s ", argv[i]);
    return 0;
}

static void test_main(void)
{
    char few[] = "1", bad[] = "999", layer[] = "@nothing";
    char *too_few[] = {few}, *wrong[] = {bad, bad, bad, layer};
    ok(network_main(1, too_few) == 2 && network_main(4, wrong) == 2, "without its descriptors it does not begin");
}

static void test_own(void)
{
    struct own_address o;
    struct address loopback, documentation;
    own_address_init(&o);
    ok(address_parse("127.0.0.1", &loopback) == 0 && own_address_is(&o, &loopback), "the loopback is this host's own");
    ok(address_parse("198.51.100.7", &documentation) == 0 && !own_address_is(&o, &documentation),
       "an example's address is not");
}

int main(int argc, char **argv)
{
    if (argc > 5 && strcmp(argv[1], "--network") == 0)
        return be_network(argc, argv);
    test_link();
    test_own();
    test_peers();
    test_membership();
    test_resolvers();
    test_upstream();
    test_stack();
    test_network();
    test_launch();
    test_main();
    return tap_end();
}
