/* Who of a supervisor's clients goes on, and who has to go (supervisor/clients.h). Connections are sockets of this
 * process. */
#include "tap.h"

#include "supervisor/clients.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 4

static uv_loop_t loop;
static struct clients list;
static struct conn *conns[CLIENTS];
static int peers[CLIENTS];
static const char *why[CLIENTS];
static const struct conn *may_not; /* go on */

static unsigned index_of(const struct conn *c)
{
    unsigned i = 0;
    while (i < CLIENTS && conns[i] != c)
        i++;
    return i;
}

static ssize_t frames(struct conn *c, uint8_t *p, size_t n, const char **ret_why)
{
    return (ssize_t)n;
}

static void cut_off(struct conn *c, const char *words)
{
    why[index_of(c)] = words;
}

static void gone(struct conn *c)
{
    clients_remove(&list, c);
    conns[index_of(c)] = NULL;
}

static const struct conn_ops ops = {.frames = frames, .cut_off = cut_off, .gone = gone};

static bool may_go_on(void *owner, const struct conn *c)
{
    return c != may_not;
}

static void begin(void)
{
    list = (struct clients){.may_go_on = may_go_on};
    clients_init(&list, &loop);
    for (unsigned i = 0; i < CLIENTS; i++) {
        int pair[2];
        why[i] = NULL;
        conns[i] = conn_new(&loop, &ops, NULL);
        if (!conns[i] || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
            uv_pipe_open(&conns[i]->pipe, pair[0]) < 0 || conn_start(conns[i]) < 0)
            abort();
        peers[i] = pair[1];
        clients_add(&list, conns[i]);
    }
}

static void end(void)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (conns[i])
            conn_close(conns[i]);
        close(peers[i]);
    }
    uv_close((uv_handle_t *)&list.wake, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void queue(unsigned i, size_t bytes)
{
    static const uint8_t much[64 * 1024];
    while (conn_queued(conns[i]) < bytes)
        conn_send(conns[i], much, sizeof(much));
}

static void test_list(void)
{
    begin();
    ok(list.n == 4 && list.first == conns[0] && list.last == conns[3] && clients_using(&list) == 0,
       "clients are kept in the order in which they came");
    conns[1]->used = conns[3]->used = true;
    ok(clients_using(&list) == 2, "those that asked the guest for something are counted");
    struct conn *middle = conns[1];
    clients_remove(&list, middle);
    ok(list.n == 3 && conns[0]->next == conns[2] && conns[2]->previous == conns[0] && !middle->next,
       "one from the middle leaves no gap");
    clients_add(&list, middle);
    clients_remove(&list, conns[0]);
    ok(list.first == conns[2] && !conns[2]->previous && list.last == middle, "so does the first one");
    clients_add(&list, conns[0]);
    end();
    ok(list.n == 0 && !list.first && !list.last, "when all have left the list is empty");
}

static void test_bound(void)
{
    begin();
    queue(1, 1 << 20);
    queue(2, 2 << 20);
    clients_bound(&list, 4 << 20);
    ok(list.n == 4, "while there is memory for all of them nobody has to go");
    clients_bound(&list, 2 << 20);
    ok(list.n == 3 && !conns[2] && why[2] && strstr(why[2], "does not read"),
       "beyond it the client for which most waits has to go, and is told why");
    clients_bound(&list, 2 << 20);
    ok(list.n == 3, "and it alone");
    end();
    struct clients none = {0};
    clients_bound(&none, 0);
    ok(!clients_evict(&none), "without clients none goes");
}

static void test_evict(void)
{
    begin();
    conns[0]->used = true;
    ok(clients_evict(&list) && conns[0] && !conns[1] && strstr(why[1], "too many clients"),
       "the oldest client that asks nothing of the guest makes room");
    conns[2]->used = conns[3]->used = true;
    ok(!clients_evict(&list) && list.n == 3, "one that uses the guest never does");
    end();
}

static void test_wake(void)
{
    begin();
    clients_wake(&list);
    ok(!uv_is_active((uv_handle_t *)&list.wake), "where no client waits nothing is looked at");
    conn_pause(conns[1]);
    conn_pause(conns[2]);
    may_not = conns[1];
    clients_wake(&list);
    ok(conns[2]->paused, "a client that may go on does so in the next round, not at once");
    uv_run(&loop, UV_RUN_NOWAIT);
    ok(conns[1]->paused && !conns[2]->paused, "then those go on that may");
    may_not = NULL;
    clients_wake(&list);
    uv_run(&loop, UV_RUN_NOWAIT);
    ok(!conns[1]->paused, "and the others when there is room");
    end();
}

int main(void)
{
    if (uv_loop_init(&loop) < 0)
        return 1;
    test_list();
    test_bound();
    test_evict();
    test_wake();
    return uv_loop_close(&loop) == 0 ? tap_end() : 1;
}
