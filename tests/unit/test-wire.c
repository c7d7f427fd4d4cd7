/* Frames and messages: what is encoded comes back; anything else is refused. */
#include "failing.h"
#include "tap.h"

#include "wire/frame.h"
#include "wire/msg_build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- Frames ---- */

static void frame_round_trip(void)
{
    static uint8_t payload[FRAME_MAX_PAYLOAD];
    fill(payload, sizeof(payload), 1);
    const uint32_t lengths[] = {1, 2, 100, FRAME_MAX_PAYLOAD};
    bool good = true;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_SIZE);
        good &= frame_append(&b, FRAME_DATA, 0x12345677, CHAN_LOG, payload, lengths[i]) == 0;
        struct frame f;
        const char *why = NULL;
        for (size_t cut = 0; cut < b.len; cut += cut < 20 ? 1 : 997)
            good &= frame_parse(b.data, cut, &f, &why) == 0;
        good &= frame_parse(b.data, b.len, &f, &why) == (ssize_t)b.len;
        good &= f.stream == 0x12345677 && f.type == FRAME_DATA && f.channel == CHAN_LOG && f.len == lengths[i] &&
                memcmp(f.payload, payload, f.len) == 0;
    }
    ok(good, "frames of every size come back, and not before they are whole");
    CLEAN_BUF struct buf b = BUF_INIT(2 * FRAME_MAX_SIZE);
    ok(frame_append(&b, FRAME_DATA, 1, 0, payload, FRAME_MAX_PAYLOAD + 1) == -EMSGSIZE && !b.len,
       "a frame longer than allowed is not made");
    static const uint8_t bytes[] = {2, 0, 0, 0, 3, 0, 0, 0, FRAME_DATA, CHAN_ERR, 0, 0, 'h', 'i'};
    ok(frame_append(&b, FRAME_DATA, 3, CHAN_ERR, "hi", 2) == 0 && b.len == sizeof(bytes) &&
           memcmp(b.data, bytes, b.len) == 0,
       "a frame has the bytes that protocol.md says");
}

static void frame_malformed(void)
{
    static const struct {
        const char *what;
        uint8_t h[12];
    } bad[] = {
        {"a length beyond the maximum", {1, 0, 1, 0, 1, 0, 0, 0, 3}},
        {"a length of 4 GiB", {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 3}},
        {"type 0", {1, 0, 0, 0, 1, 0, 0, 0, 0}},
        {"an unknown type", {1, 0, 0, 0, 1, 0, 0, 0, 8}},
        {"an unknown channel", {1, 0, 0, 0, 1, 0, 0, 0, 3, 5}},
        {"a channel outside of data", {1, 0, 0, 0, 1, 0, 0, 0, 2, 1}},
        {"reserved bits, first byte", {1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 1, 0}},
        {"reserved bits, second byte", {1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 128}},
        {"a message on a stream", {1, 0, 0, 0, 1, 0, 0, 0, 1}},
        {"a bye on a stream", {0, 0, 0, 0, 1, 0, 0, 0, 7}},
        {"an open of stream 0", {1, 0, 0, 0, 0, 0, 0, 0, 2}},
        {"data on stream 0", {1, 0, 0, 0, 0, 0, 0, 0, 3}},
        {"data without content", {0, 0, 0, 0, 1, 0, 0, 0, 3}},
        {"a window on stream 0", {4, 0, 0, 0, 0, 0, 0, 0, 4}},
        {"a window of 3 bytes", {3, 0, 0, 0, 1, 0, 0, 0, 4}},
        {"a window of 5 bytes", {5, 0, 0, 0, 1, 0, 0, 0, 4}},
        {"a close with a payload", {1, 0, 0, 0, 1, 0, 0, 0, 5}},
        {"a reason of 1025 bytes", {1, 4, 0, 0, 1, 0, 0, 0, 6}},
        {"a bye of 1025 bytes", {1, 4, 0, 0, 0, 0, 0, 0, 7}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct frame f;
        const char *why = NULL;
        ok(frame_parse(bad[i].h, 11, &f, &why) == 0 && frame_parse(bad[i].h, 12, &f, &why) == -EPROTO && why,
           "%s is refused by its header alone", bad[i].what);
    }
}

/* ---- Messages ---- */

struct message {
    const char *name;
    const char *fields; /* "number:length ..." as encoded */
    int (*make)(struct buf *b);
    int (*decode)(const void *p, size_t n, bool *ret_same);
};

/* Messages that own nothing: the struct comes back byte for byte. */
#define FLAT(name, ...)                                                                                                \
    static const struct msg_##name name##_sample = {__VA_ARGS__};                                                      \
    static int name##_make(struct buf *b)                                                                              \
    {                                                                                                                  \
        return msg_##name##_encode(b, &name##_sample);                                                                 \
    }                                                                                                                  \
    static int name##_decode(const void *p, size_t n, bool *ret_same)                                                  \
    {                                                                                                                  \
        struct msg_##name m;                                                                                           \
        memset(&m, 0, sizeof(m));                                                                                      \
        int r = msg_##name##_decode(&m, p, n);                                                                         \
        *ret_same = r == 0 && memcmp(&m, &name##_sample, sizeof(m)) == 0;                                              \
        return r;                                                                                                      \
    }

FLAT(hello, .protocol = 1, .role = "builder", .kernel = "6.1.0", .boot_ns = 0x1122334455667788, .ready_ns = UINT64_MAX)
FLAT(log, .text = "a line")
FLAT(service, .name = "web", .state = "failed", .code = 137)
FLAT(configure, .hostname = "host", .wall_ns = 1, .seed = {1, 0, 2}, .seed_len = 3, .address = "10.0.2.15/24",
     .gateway = "10.0.2.2", .dns = "10.0.2.3", .store_check = true)
FLAT(configured, .problem = "no card", .address = "10.0.2.15", .store = "ok")
FLAT(clock, .wall_ns = 77)
FLAT(seed, .seed = {[63] = 9}, .len = 64)
FLAT(signal, .number = 15)
FLAT(winsize, .rows = 24, .cols = 80)
FLAT(exit, .code = 127, .problem = "not found")
FLAT(flood, .send = 1ull << 40)
FLAT(entry, .kind = ENTRY_SYMLINK, .path = "a/b", .mode = 0755, .size = 5, .target = "../c")
FLAT(phase, .name = "eval")
FLAT(status, .state = "ready", .problem = "p", .hint = "hi", .detail = "l1\nl2", .vmm_pid = 1, .ready_ns = 2,
     .spawn_ns = 3, .hello_ns = 4, .guest_boot_ns = 5, .guest_ready_ns = 6, .address = "10.0.0.1", .store = "broken",
     .steps = "a 1 2\n")
FLAT(store_reply, .size = 1, .used = 2, .freed = 3, .surveyed = true, .reclaimable = 4, .problem = "no")

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_list(const struct msg_strings *a, const struct msg_strings *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = same_text(a->v[i], b->v[i]);
    return same && (a->n == 0 || a->v[a->n] == NULL);
}

static char word_a[] = "sh", word_b[] = "", word_c[] = "X=1", word_d[] = "/tmp", word_e[] = "1000";
static char *argv_sample[] = {word_a, word_b, word_d, NULL}, *env_sample[] = {word_c, NULL};
static const struct msg_exec exec_sample = {
    .argv = {argv_sample, 3},
    .env = {env_sample, 1},
    .cwd = word_d,
    .user = word_e,
    .terminal = true,
    .rows = 50,
    .cols = 132,
};
static const struct msg_build build_sample = {
    .subdir = word_b,
    .attr = word_a,
    .system = word_c,
    .options = {argv_sample, 3},
    .inputs = {argv_sample, 2},
    .rev = word_b,
    .rev_count = 7,
    .store_name = word_a,
    .nar_size = 9,
};
static const struct msg_result result_sample = {
    .exit_code = 1,
    .phase = "nix-build",
    .problem = "no",
    .store_path = "/nix/store/x",
    .available = word_a,
    .eval_ns = 1,
    .build_ns = 2,
    .stage_ns = 3,
    .extract_ns = 4,
};
static const struct msg_store store_sample = {
    .live = {argv_sample, 3},
    .above = 1,
    .target = 2,
    .survey = true,
    .surveyed = 3,
};
static const struct msg_transfer transfer_sample = {.path = word_d, .follow = true};

static int exec_make(struct buf *b)
{
    return msg_exec_encode(b, &exec_sample);
}

static int exec_decode(const void *p, size_t n, bool *ret_same)
{
    struct msg_exec m = {0};
    const struct msg_exec *s = &exec_sample;
    int r = msg_exec_decode(&m, p, n);
    *ret_same = r == 0 && same_list(&m.argv, &s->argv) && same_list(&m.env, &s->env) && same_text(m.cwd, s->cwd) &&
                same_text(m.user, s->user) && m.terminal && m.rows == s->rows && m.cols == s->cols;
    msg_exec_done(&m);
    return r;
}

static int build_make(struct buf *b)
{
    return msg_build_encode(b, &build_sample);
}

static int build_decode(const void *p, size_t n, bool *ret_same)
{
    struct msg_build m = {0};
    const struct msg_build *s = &build_sample;
    int r = msg_build_decode(&m, p, n);
    *ret_same = r == 0 && same_text(m.remote, s->remote) && same_text(m.subdir, s->subdir) &&
                same_text(m.attr, s->attr) && same_text(m.system, s->system) && !m.offline &&
                same_list(&m.options, &s->options) && same_list(&m.inputs, &s->inputs) && same_text(m.rev, s->rev) &&
                m.rev_count == s->rev_count && same_text(m.store_name, s->store_name) && m.nar_size == s->nar_size;
    msg_build_done(&m);
    return r;
}

static int store_make(struct buf *b)
{
    return msg_store_encode(b, &store_sample);
}

static int store_decode(const void *p, size_t n, bool *ret_same)
{
    struct msg_store m = {0};
    int r = msg_store_decode(&m, p, n);
    *ret_same = r == 0 && same_list(&m.live, &store_sample.live) && m.above == 1 && m.target == 2 && m.survey &&
                m.surveyed == 3;
    msg_store_done(&m);
    return r;
}

static int result_make(struct buf *b)
{
    return msg_result_encode(b, &result_sample);
}

static int result_decode(const void *p, size_t n, bool *ret_same)
{
    struct msg_result m = {0};
    const struct msg_result *s = &result_sample;
    int r = msg_result_decode(&m, p, n);
    *ret_same = r == 0 && !m.ok && m.exit_code == 1 && same_text(m.phase, s->phase) &&
                same_text(m.problem, s->problem) && same_text(m.store_path, s->store_path) &&
                same_text(m.available, s->available) && m.eval_ns == 1 && m.build_ns == 2 && m.stage_ns == 3 &&
                m.extract_ns == 4;
    msg_result_done(&m);
    return r;
}

static int transfer_make(struct buf *b)
{
    return msg_transfer_encode(b, MSG_PULL, &transfer_sample);
}

static int transfer_decode(const void *p, size_t n, bool *ret_same)
{
    struct msg_transfer m = {0};
    int r = msg_transfer_decode(&m, MSG_PULL, p, n);
    *ret_same = r == 0 && same_text(m.path, word_d) && m.follow;
    msg_transfer_done(&m);
    return r;
}

#define MESSAGE(name, fields)                                                                                          \
    {                                                                                                                  \
#name, fields, name##_make, name##_decode                                                                      \
    }
static const struct message messages[] = {
    MESSAGE(hello, "type 1: 1:8 2:7 3:5 4:8 5:8"),
    MESSAGE(log, "type 2: 1:6"),
    MESSAGE(configured, "type 3: 1:7 2:9 3:2"),
    MESSAGE(service, "type 4: 1:3 2:6 3:8"),
    MESSAGE(configure, "type 16: 1:4 2:8 3:3 4:12 5:8 6:8 7:8"),
    MESSAGE(clock, "type 18: 1:8"),
    MESSAGE(seed, "type 19: 1:64"),
    MESSAGE(exec, "type 32: 1:2 1:0 1:4 2:3 3:4 4:4 5:8 6:8 7:8"),
    MESSAGE(transfer, "type 34: 1:4 2:8"),
    MESSAGE(build, "type 35: 2:0 3:2 4:3 7:2 7:0 7:4 8:2 8:0 71:0 72:8 73:2 76:8"),
    MESSAGE(flood, "type 36: 1:8"),
    MESSAGE(signal, "type 48: 1:8"),
    MESSAGE(winsize, "type 49: 1:8 2:8"),
    MESSAGE(exit, "type 50: 1:8 2:9"),
    MESSAGE(entry, "type 51: 1:8 2:3 3:8 4:8 5:4"),
    MESSAGE(phase, "type 53: 1:4"),
    MESSAGE(result, "type 54: 2:8 3:9 4:2 6:12 7:2 8:8 9:8 10:8 11:8"),
    MESSAGE(status, "type 55: 1:5 2:1 3:2 4:5 5:8 6:8 7:8 8:8 9:8 10:8 11:8 12:6 18:6"),
    MESSAGE(store, "type 38: 1:2 1:0 1:4 2:8 3:8 4:8 5:8"),
    MESSAGE(store_reply, "type 58: 1:8 2:8 3:8 4:8 5:8 6:2"),
};

static void list_fields(const struct buf *m, struct buf *out)
{
    struct msg_reader r;
    if (msg_open(&r, m->data, m->len) < 0)
        return;
    int e = buf_printf(out, "type %u:", r.type);
    while (e == 0 && msg_next(&r))
        e = buf_printf(out, " %u:%u", r.field, r.len);
}

/* The message in memory of exactly its size, so that the sanitizer sees any byte read behind it. */
static int decode_copy(const struct message *m, const uint8_t *p, size_t n)
{
    CLEAN_FREE uint8_t *copy = malloc(n ? n : 1);
    bool same;
    memcpy(copy, p, n);
    return m->decode(n ? copy : NULL, n, &same);
}

static void message_round_trip(const struct message *m)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    CLEAN_BUF struct buf fields = BUF_INIT(1024);
    bool same = false;
    ok(m->make(&b) == 0 && m->decode(b.data, b.len, &same) == 0 && same, "%s comes back", m->name);
    list_fields(&b, &fields);
    if (!ok(strcmp(buf_cstr(&fields), m->fields) == 0, "%s has its field numbers", m->name))
        printf("# %s\n", buf_cstr(&fields));
    bool good = true;
    for (size_t n = 0; n < b.len; n++) {
        int r = decode_copy(m, b.data, n);
        good &= r == -EPROTO || (r == 0 && n >= 2);
    }
    ok(good, "%s cut anywhere is a message or an error", m->name);
    good = true;
    static const uint8_t values[] = {0, 1, 5, 127, 128, 255};
    for (size_t i = 0; i < b.len; i++) {
        for (size_t k = 0; k < sizeof(values); k++) {
            uint8_t old = b.data[i];
            b.data[i] = values[k];
            int r = decode_copy(m, b.data, b.len);
            good &= r == 0 || r == -EPROTO;
            b.data[i] = old;
        }
    }
    ok(good, "%s with any byte changed is a message or an error", m->name);
    good = true;
    int r = -ENOMEM;
    for (long k = 0; r == -ENOMEM; k++) {
        fail_at = k;
        r = m->decode(b.data, b.len, &same);
        fail_at = -1;
        good &= r == 0 || r == -ENOMEM;
    }
    ok(good && same, "%s survives running out of memory", m->name);
}

static int log_of(const void *text, size_t n, struct msg_log *m)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    int r = msg_begin(&b, MSG_LOG);
    if (r == 0)
        r = msg_put_bytes(&b, 1, text, n);
    memset(m, 0, sizeof(*m));
    return r < 0 ? r : msg_log_decode(m, b.data, b.len);
}

static void message_strictness(void)
{
    static struct msg_log m;
    static char text[1024];
    memset(text, 'x', sizeof(text));
    ok(log_of(text, 1023, &m) == 0 && strlen(m.text) == 1023, "a text that fits is taken");
    ok(log_of(text, 1024, &m) == -EPROTO, "a text that does not fit is refused, not cut");
    ok(log_of("a\0b", 3, &m) == -EPROTO, "a text with NUL inside is refused");

    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    struct msg_clock c = {0};
    int r = msg_begin(&b, MSG_CLOCK);
    r |= msg_put_string(&b, 200, "from the future");
    r |= msg_put_u64(&b, 1, 5);
    r |= msg_put_u64(&b, 1, 6);
    ok(r == 0 && msg_clock_decode(&c, b.data, b.len) == 0 && c.wall_ns == 6,
       "unknown fields are skipped; of a field that comes twice the last one counts");
    b.data[1] = 2;
    ok(msg_clock_decode(&c, b.data, b.len) == 0, "a newer version of a message is read");
    b.data[1] = 0;
    ok(msg_clock_decode(&c, b.data, b.len) == -EPROTO, "version 0 is refused");
    b.data[1] = 1;
    b.data[0] = MSG_SEED;
    ok(msg_clock_decode(&c, b.data, b.len) == -EPROTO, "a message of another type is refused");
    r = msg_begin(&b, MSG_CLOCK);
    r |= msg_put_bytes(&b, 1, "1234567", 7);
    ok(r == 0 && msg_clock_decode(&c, b.data, b.len) == -EPROTO, "an integer has 8 bytes");
    r = msg_begin(&b, MSG_SEED);
    r |= msg_put_bytes(&b, 1, text, 65);
    struct msg_seed seed = {0};
    ok(r == 0 && msg_seed_decode(&seed, b.data, b.len) == -EPROTO, "a seed has at most 64 bytes");
    seed.len = 65;
    ok(msg_seed_encode(&b, &seed) == -EMSGSIZE, "nor is a longer one sent");
    CLEAN_BUF struct buf small = BUF_INIT(20);
    ok(msg_hello_encode(&small, &hello_sample) == -EMSGSIZE, "a message respects its buffer");
}

static void message_lists(void)
{
    static char *many[MSG_MAX_ARGS + 2];
    for (size_t i = 0; i <= MSG_MAX_ARGS; i++)
        many[i] = word_a;
    CLEAN_BUF struct buf b = BUF_INIT(8u << 20);
    struct msg_exec m = {.argv = {many, MSG_MAX_ARGS}, .env = {many, MSG_MAX_ARGS}}, out = {0};
    ok(msg_exec_encode(&b, &m) == 0 && msg_exec_decode(&out, b.data, b.len) == 0 && out.argv.n == MSG_MAX_ARGS &&
           out.env.n == MSG_MAX_ARGS,
       "lists of the maximum length are taken");
    msg_exec_done(&out);
    ok(!out.argv.v && !out.argv.n, "and freed");
    ok(msg_put_string(&b, 1, "more") == 0 && msg_exec_decode(&out, b.data, b.len) == -EPROTO && !out.argv.v &&
           !out.env.v,
       "a longer list is refused and nothing is left behind");
    m.argv.n++;
    ok(msg_exec_encode(&b, &m) == -E2BIG, "nor is a longer one sent");
}

static void message_statuses(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    struct msg_exit m = {.code = 255};
    struct msg_result result = {0};
    ok(msg_exit_encode(&b, &m) == 0 && msg_exit_decode(&m, b.data, b.len) == 0 && m.code == 255,
       "R11: an exit status is at most 255");
    ok(msg_begin(&b, MSG_EXIT) == 0 && msg_put_u64(&b, 1, 256) == 0 && msg_exit_decode(&m, b.data, b.len) == -EPROTO,
       "R11: 256 is none, and no success");
    ok(msg_begin(&b, MSG_RESULT) == 0 && msg_put_u64(&b, 2, 1ull << 32) == 0 &&
           msg_result_decode(&result, b.data, b.len) == -EPROTO,
       "R11: nor is one of a build beyond 32 bits");
}

/* What the names are, others depend on: agents and supervisors of other versions, run.json, users' scripts. */
static void names(void)
{
#define CHECK_NAMES(count, name, parse, ...)                                                                           \
    do {                                                                                                               \
        static const char *const are[] = {__VA_ARGS__};                                                                \
        bool same = ARRAY_SIZE(are) == (count);                                                                        \
        for (unsigned i = 0; same && i < ARRAY_SIZE(are); i++)                                                         \
            same = strcmp(name(i), are[i]) == 0 && parse(are[i]) == i;                                                 \
        ok(same, "%s and %s know the names as they are on the wire", #name, #parse);                                   \
    } while (0)
    CHECK_NAMES(VM_STATES, vm_state_name, vm_state_parse, "starting", "ready", "paused", "cut off", "halted",
                "stopping", "failed");
    CHECK_NAMES(VM_ROLES, vm_role_name, vm_role_parse, "runtime", "builder");
    CHECK_NAMES(VM_STARTS, vm_start_name, vm_start_parse, "cold", "warm");
    CHECK_NAMES(SERVICES_STATES, services_state_name, services_state_parse, "starting", "ready", "failed");
    CHECK_NAMES(STORE_HEALTHS, store_health_name, store_health_parse, "ok", "repaired", "broken");
    ok(vm_state_parse("asleep") == VM_STATES && vm_start_parse("") == VM_STARTS &&
           services_state_parse("") == SERVICES_STATES && store_health_parse("") == STORE_HEALTHS,
       "a text that is no name is none");
    ok(vm_role_parse("") == VM_ROLE_RUNTIME, "what is no builder is a runtime VM");
}

int main(void)
{
    names();
    frame_round_trip();
    frame_malformed();
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
        message_round_trip(&messages[i]);
    message_strictness();
    message_lists();
    message_statuses();
    return tap_end();
}
