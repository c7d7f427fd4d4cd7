#include "supervisor/router.h"
#include "supervisor/conn.h"
#include "supervisor/frame_cost.h"
#include "wire/msg.h"
#include "wire/mux.h"

#include <errno.h>
#include <string.h>

/* One stream between a client and the guest. */
struct route {
    struct route *next;
    struct router_client *client;
    uint32_t client_stream, guest_stream;
    int64_t to_guest_window, to_client_window; /* payload bytes each side may still send */
    int64_t limit, grant;                      /* what these are when the receiver has taken everything */
    bool client_closed, guest_closed, has_extra;
};

struct router_client {
    struct router_client *next;
    void *handle;
    uint32_t last_opened;
    unsigned n_routes;
    bool publishes;
};

/* Routes hang in a small hash table by the guest's number; a client's number is looked for along its own list in the
 * same table, which is short: one `exec` has one stream. */
#define BUCKETS 64

/* What is given at once to a stream that begins with a small window, while there is enough. */
#define EXTRA (MUX_WINDOW - ROUTER_WINDOW)
_Static_assert(ROUTER_STREAMS *ROUTER_WINDOW <= ROUTER_GRANTS, "all streams together get no more");
_Static_assert(ROUTER_STREAMS_OLD *MUX_WINDOW <= ROUTER_GRANTS, "all streams together get no more");

struct router {
    const struct router_ops *ops;
    void *data;
    bool guest_up;
    bool small_windows;
    uint32_t next_stream;
    unsigned n_routes; /* without the publisher's */
    unsigned n_published;
    int64_t extra; /* of all grants, what is beyond the windows that streams begin with */
    struct frame_cost cost;
    struct route *routes[BUCKETS];
    struct router_client *clients;
    struct buf frame;
};

static struct route **bucket(struct router *r, uint32_t guest_stream)
{
    return &r->routes[(guest_stream >> 1) % BUCKETS];
}

struct router *router_new(const struct router_ops *ops, void *data)
{
    struct router *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->ops = ops;
    r->data = data;
    r->next_stream = 1;
    r->frame.max = FRAME_MAX_SIZE;
    return r;
}

static void free_all_routes(struct router *r)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (r->routes[i]) {
            struct route *t = r->routes[i];
            r->routes[i] = t->next;
            free(t);
        }
    }
}

void router_free(struct router *r)
{
    if (!r)
        return;
    free_all_routes(r);
    while (r->clients) {
        struct router_client *c = r->clients;
        r->clients = c->next;
        free(c);
    }
    buf_done(&r->frame);
    free(r);
}

static unsigned *count_of(struct router *r, const struct router_client *c)
{
    return c->publishes ? &r->n_published : &r->n_routes;
}

static void drop_route(struct router *r, struct route *gone)
{
    for (struct route **p = bucket(r, gone->guest_stream); *p; p = &(*p)->next) {
        if (*p == gone) {
            *p = gone->next;
            gone->client->n_routes--;
            (*count_of(r, gone->client))--;
            if (gone->has_extra)
                r->extra -= EXTRA;
            free(gone);
            return;
        }
    }
}

static struct route *find_guest(struct router *r, uint32_t guest_stream)
{
    for (struct route *t = *bucket(r, guest_stream); t; t = t->next)
        if (t->guest_stream == guest_stream)
            return t;
    return NULL;
}

static struct route *find_client(struct router *r, const struct router_client *c, uint32_t client_stream)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct route *t = r->routes[i]; t; t = t->next)
            if (t->client == c && t->client_stream == client_stream)
                return t;
    return NULL;
}

static void send_guest(struct router *r, uint8_t type, uint32_t stream, const void *p, uint32_t n)
{
    buf_clear(&r->frame);
    if (frame_append(&r->frame, type, stream, 0, p, n) == 0)
        r->ops->to_guest(r->data, r->frame.data, r->frame.len);
}

static void send_client(struct router *r, struct router_client *c, uint8_t type, uint32_t stream, const void *p,
                        uint32_t n)
{
    buf_clear(&r->frame);
    if (frame_append(&r->frame, type, stream, 0, p, n) == 0)
        r->ops->to_client(r->data, c->handle, r->frame.data, r->frame.len);
}

static void reset_client(struct router *r, struct router_client *c, uint32_t stream, const char *why)
{
    send_client(r, c, FRAME_RESET, stream, why, (uint32_t)strlen(why));
}

void router_set_guest(struct router *r, bool up, const char *why)
{
    r->guest_up = up;
    if (up)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (r->routes[i]) {
            struct route *t = r->routes[i];
            reset_client(r, t->client, t->client_stream, why);
            drop_route(r, t);
        }
    }
}

struct router_client *router_add_client(struct router *r, void *handle)
{
    struct router_client *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->handle = handle;
    c->next = r->clients;
    r->clients = c;
    return c;
}

struct router_client *router_add_publisher(struct router *r, void *handle)
{
    struct router_client *c = router_add_client(r, handle);
    if (c)
        c->publishes = true;
    return c;
}

void router_remove_client(struct router *r, struct router_client *c)
{
    static const char why[] = "the client went away";
    for (size_t i = 0; i < BUCKETS && c->n_routes; i++) {
        for (struct route *t = r->routes[i], *next; t; t = next) {
            next = t->next;
            if (t->client != c)
                continue;
            send_guest(r, FRAME_RESET, t->guest_stream, why, sizeof(why) - 1);
            drop_route(r, t);
        }
    }
    for (struct router_client **p = &r->clients; *p; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            break;
        }
    }
    free(c);
}

/* Books what a frame does to the stream's state. `window` is the sender's, `other` the receiver's, which is `limit`
 * where nothing is on its way. NULL, or what is wrong. */
static const char *account(const struct frame *f, int64_t *window, int64_t *other, int64_t limit, bool *closed)
{
    switch (f->type) {
    case FRAME_DATA:
        if (*closed)
            return "data after close";
        *window -= (int64_t)f->len;
        return *window < 0 ? "more data than the window allows" : NULL;
    case FRAME_WINDOW:
        *other += frame_window(f);
        return frame_window(f) == 0 || *other > limit ? "window for data that never came" : NULL;
    case FRAME_CLOSE:
        if (*closed)
            return "closed twice";
        *closed = true;
        return NULL;
    case FRAME_RESET:
        return NULL;
    default:
        return "frame of an unknown type";
    }
}

uint64_t router_cost(struct router *r)
{
    return frame_cost_take(&r->cost, ROUTER_GRANTS);
}

void router_set_small_windows(struct router *r, bool small)
{
    r->small_windows = small;
}

bool router_guest_is_up(const struct router *r)
{
    return r->guest_up;
}

bool router_is_used(const struct router *r)
{
    return r->n_routes + r->n_published > 0;
}

bool router_has_room(const struct router *r)
{
    return r->n_routes < (r->small_windows ? ROUTER_STREAMS : ROUTER_STREAMS_OLD);
}

/* A run of frames for one receiver, passed on in one call. */
struct run {
    uint8_t *start;
    size_t len;
    struct router_client *client;
};

static void run_flush_client(struct router *r, struct run *run)
{
    if (run->len)
        r->ops->to_client(r->data, run->client->handle, run->start, run->len);
    run->len = 0;
}

static void run_add(struct router *r, struct run *run, struct router_client *c, uint8_t *p, size_t n)
{
    if (run->len && (run->client != c || run->start + run->len != p))
        run_flush_client(r, run);
    if (run->len == 0)
        *run = (struct run){.start = p, .client = c};
    run->len += n;
}

/* One frame from the guest for a stream. */
static const char *guest_frame(struct router *r, const struct frame *f, uint8_t *bytes, size_t n, struct run *run)
{
    if (f->type == FRAME_OPEN) {
        frame_cost_charge(&r->cost, f, false);
        run_flush_client(r, run);
        static const char why[] = "the host serves no requests";
        send_guest(r, FRAME_RESET, f->stream, why, sizeof(why) - 1);
        return NULL;
    }
    struct route *t = find_guest(r, f->stream);
    frame_cost_charge(&r->cost, f, t != NULL);
    if (!t)
        return f->stream < r->next_stream ? NULL : "frame for a stream that was never opened";
    const char *why = account(f, &t->to_client_window, &t->to_guest_window, t->limit, &t->guest_closed);
    if (why)
        return why;
    frame_renumber(bytes, t->client_stream);
    run_add(r, run, t->client, bytes, n);
    if (f->type == FRAME_RESET || (t->guest_closed && t->client_closed))
        drop_route(r, t);
    return NULL;
}

ssize_t router_from_guest(struct router *r, uint8_t *data, size_t len, const char **ret_why)
{
    size_t used = 0;
    struct run run = {0};
    while (used < len) {
        struct frame f;
        ssize_t n = frame_parse(data + used, len - used, &f, ret_why);
        if (n == 0)
            break;
        const char *why = NULL;
        if (n < 0)
            why = *ret_why;
        else if (f.stream != 0)
            why = guest_frame(r, &f, data + used, (size_t)n, &run);
        else if (f.type == FRAME_BYE)
            why = "the agent ended the connection";
        else if (f.type != FRAME_MSG)
            why = "stream 0 carries messages only";
        else {
            run_flush_client(r, &run);
            frame_cost_charge(&r->cost, &f, false);
            if (r->ops->guest_msg(r->data, f.payload, f.len) != 0)
                why = "message that cannot be understood";
        }
        if (why) {
            run_flush_client(r, &run);
            *ret_why = why;
            return -EPROTO;
        }
        used += (size_t)n;
    }
    run_flush_client(r, &run);
    return (ssize_t)used;
}

/* A stream that begins with a small window gets the rest where few are open. */
static void give_extra(struct router *r, struct route *t)
{
    static const uint8_t bytes[4] = {EXTRA & 0xff, EXTRA >> 8 & 0xff, EXTRA >> 16 & 0xff, EXTRA >> 24};
    if (t->grant == MUX_WINDOW || t->client->publishes ||
        r->extra + EXTRA > (int64_t)(ROUTER_GRANTS - ROUTER_STREAMS * ROUTER_WINDOW))
        return;
    send_guest(r, FRAME_WINDOW, t->guest_stream, bytes, sizeof(bytes));
    t->grant += EXTRA;
    t->to_client_window += EXTRA;
    t->has_extra = true;
    r->extra += EXTRA;
}

/* Instead of what is wrong: the stream has to wait for room. */
static const char later[] = "later";

/* What both sides begin with on that stream. */
static void set_windows(const struct router *r, struct route *t, const struct frame *f)
{
    struct msg_connect m = {0};
    t->limit = MUX_WINDOW;
    t->grant = r->small_windows ? ROUTER_WINDOW : MUX_WINDOW;
    if (t->client->publishes && msg_connect_decode(&m, f->payload, f->len) == 0 && m.window)
        t->limit = t->grant = (int64_t)m.window;
    t->to_guest_window = t->limit;
    t->to_client_window = t->grant;
}

static const char *add_route(struct router *r, struct router_client *c, const struct frame *f, uint8_t *bytes, size_t n)
{
    struct route *t = calloc(1, sizeof(*t));
    if (!t)
        return "out of memory";
    *t = (struct route){.client = c, .client_stream = f->stream, .guest_stream = r->next_stream};
    set_windows(r, t, f);
    r->next_stream += 2;
    t->next = *bucket(r, t->guest_stream);
    *bucket(r, t->guest_stream) = t;
    c->n_routes++;
    (*count_of(r, c))++;
    frame_renumber(bytes, t->guest_stream);
    r->ops->to_guest(r->data, bytes, n);
    give_extra(r, t);
    return NULL;
}

static const char *open_route(struct router *r, struct router_client *c, const struct frame *f, uint8_t *bytes,
                              size_t n)
{
    if ((f->stream & 1) == 0 || f->stream <= c->last_opened)
        return "stream number out of order";
    if (!c->publishes && r->ops->local(r->data, c->handle, f->stream, f->payload, f->len)) {
        c->last_opened = f->stream;
        return NULL;
    }
    if (r->guest_up && !c->publishes && !router_has_room(r))
        return later;
    c->last_opened = f->stream;
    const char *why = r->guest_up ? add_route(r, c, f, bytes, n) : "the guest's agent is not ready";
    if (why)
        reset_client(r, c, f->stream, why);
    return NULL;
}

static const char *client_frame(struct router *r, struct router_client *c, const struct frame *f, uint8_t *bytes,
                                size_t n)
{
    if (f->stream == 0)
        return f->type == FRAME_BYE ? conn_goodbye : "clients have no messages on stream 0";
    if (f->type == FRAME_OPEN)
        return open_route(r, c, f, bytes, n);
    struct route *t = find_client(r, c, f->stream);
    if (!t)
        return f->stream <= c->last_opened ? NULL : "frame for a stream that was never opened";
    if (f->type == FRAME_DATA)
        r->cost.moved += f->len;
    const char *why = account(f, &t->to_guest_window, &t->to_client_window, t->grant, &t->client_closed);
    if (why)
        return why;
    frame_renumber(bytes, t->guest_stream);
    r->ops->to_guest(r->data, bytes, n);
    if (f->type == FRAME_RESET || (t->guest_closed && t->client_closed))
        drop_route(r, t);
    return NULL;
}

ssize_t router_from_client(struct router *r, struct router_client *c, uint8_t *data, size_t len, bool *ret_waits,
                           const char **ret_why)
{
    size_t used = 0;
    while (used < len) {
        struct frame f;
        ssize_t n = frame_parse(data + used, len - used, &f, ret_why);
        if (n == 0)
            break;
        const char *why = n < 0 ? *ret_why : client_frame(r, c, &f, data + used, (size_t)n);
        if (why == later) {
            *ret_waits = true;
            break;
        }
        if (why) {
            *ret_why = why;
            return -EPROTO;
        }
        used += (size_t)n;
    }
    return (ssize_t)used;
}
