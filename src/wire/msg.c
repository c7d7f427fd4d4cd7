/*
 * Each message is described by a table: field number, kind and place in its struct. One encoder and
 * one decoder walk the tables, so that both sides agree by construction. The numbers are the
 * protocol's (docs/protocol.md): they are never given to another field.
 */
#include "wire/msg_build.h"

#include <errno.h>
#include <string.h>

#define MSG_VERSION 1

/* ---- Fields ---- */

int msg_begin(struct buf *b, uint8_t type)
{
    const uint8_t head[2] = {type, MSG_VERSION};
    buf_clear(b);
    return buf_append(b, head, sizeof(head));
}

int msg_put_bytes(struct buf *b, uint8_t field, const void *p, size_t n)
{
    if (n > UINT32_MAX)
        return -EMSGSIZE;
    int r = buf_reserve(b, 5 + n);
    if (r < 0)
        return r;
    const uint8_t head[5] = {field, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    r = buf_append(b, head, sizeof(head));
    return r < 0 ? r : buf_append(b, p, n);
}

int msg_put_u64(struct buf *b, uint8_t field, uint64_t v)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    return msg_put_bytes(b, field, bytes, sizeof(bytes));
}

int msg_put_string(struct buf *b, uint8_t field, const char *s)
{
    return s ? msg_put_bytes(b, field, s, strlen(s)) : 0;
}

int msg_open(struct msg_reader *r, const void *data, size_t len)
{
    const uint8_t *p = data;
    *r = (struct msg_reader){0};
    if (len < 2 || p[1] == 0)
        return -EPROTO;
    r->type = p[0];
    r->version = p[1];
    r->at = p + 2;
    r->end = p + len;
    return 0;
}

bool msg_next(struct msg_reader *r)
{
    if (r->error || r->at == r->end)
        return false;
    size_t left = (size_t)(r->end - r->at);
    if (left < 5) {
        r->error = -EPROTO;
        return false;
    }
    uint32_t n = (uint32_t)r->at[1] | (uint32_t)r->at[2] << 8 | (uint32_t)r->at[3] << 16 | (uint32_t)r->at[4] << 24;
    if (n > left - 5) {
        r->error = -EPROTO;
        return false;
    }
    r->field = r->at[0];
    r->data = r->at + 5;
    r->len = n;
    r->at += 5 + n;
    return true;
}

uint64_t msg_u64(struct msg_reader *r)
{
    if (r->len != 8) {
        r->error = -EPROTO;
        return 0;
    }
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)r->data[i] << (8 * i);
    return v;
}

/* The current field copied as a NUL-terminated string into out; sets r->error where it has a NUL inside or does not
 * fit. */
static void read_text(struct msg_reader *r, char *out, size_t size)
{
    if (r->len >= size || (r->len && memchr(r->data, '\0', r->len))) {
        r->error = -EPROTO;
        return;
    }
    if (r->len)
        memcpy(out, r->data, r->len);
    out[r->len] = '\0';
}

/* The same, allocated; NULL with r->error set on failure (-ENOMEM too). The caller frees. */
static char *read_alloc(struct msg_reader *r)
{
    if (r->len && memchr(r->data, '\0', r->len)) {
        r->error = -EPROTO;
        return NULL;
    }
    char *s = malloc((size_t)r->len + 1);
    if (!s) {
        r->error = -ENOMEM;
        return NULL;
    }
    if (r->len)
        memcpy(s, r->data, r->len);
    s[r->len] = '\0';
    return s;
}

void msg_strings_done(struct msg_strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct msg_strings){0};
}

int msg_strings_add(struct msg_strings *s, char *text)
{
    bool full = s->n < 2 || (s->n & (s->n - 1)) == 0; /* room for twice as many at each power of two */
    char **v = s->v;
    if (!text || s->n >= MSG_MAX_ARGS)
        v = NULL;
    else if (full)
        v = reallocarray(s->v, 2 * s->n + 2, sizeof(*v));
    if (!v) {
        free(text);
        return s->n < MSG_MAX_ARGS ? -ENOMEM : -E2BIG;
    }
    s->v = v;
    v[s->n++] = text;
    v[s->n] = NULL;
    return 0;
}

/* ---- Tables ---- */

enum kind { U64, STATUS, BOOL, TEXT, ALLOC, LIST, BYTES };

struct field {
    uint8_t number;
    uint8_t kind;
    size_t offset;
    size_t size;       /* TEXT and BYTES: of the array */
    size_t len_offset; /* BYTES: of the size_t that holds the length */
};

#define F_U64(n, s, m)                                                                                                 \
    {                                                                                                                  \
        n, U64, offsetof(struct s, m), 0, 0                                                                            \
    }
/* An exit status: what does not fit one is none. */
#define F_STATUS(n, s, m)                                                                                              \
    {                                                                                                                  \
        n, STATUS, offsetof(struct s, m), 0, 0                                                                         \
    }
#define F_BOOL(n, s, m)                                                                                                \
    {                                                                                                                  \
        n, BOOL, offsetof(struct s, m), 0, 0                                                                           \
    }
#define F_TEXT(n, s, m)                                                                                                \
    {                                                                                                                  \
        n, TEXT, offsetof(struct s, m), sizeof(((struct s *)0)->m), 0                                                  \
    }
#define F_ALLOC(n, s, m)                                                                                               \
    {                                                                                                                  \
        n, ALLOC, offsetof(struct s, m), 0, 0                                                                          \
    }
#define F_LIST(n, s, m)                                                                                                \
    {                                                                                                                  \
        n, LIST, offsetof(struct s, m), 0, 0                                                                           \
    }
#define F_BYTES(n, s, m, l)                                                                                            \
    {                                                                                                                  \
        n, BYTES, offsetof(struct s, m), sizeof(((struct s *)0)->m), offsetof(struct s, l)                             \
    }

static int encode_field(struct buf *b, const struct field *f, const uint8_t *at, const uint8_t *base)
{
    const struct msg_strings *list;
    const char *text;
    uint64_t v;
    size_t n;
    bool flag;
    int r = 0;
    switch (f->kind) {
    case U64:
    case STATUS:
        memcpy(&v, at, sizeof(v));
        return v ? msg_put_u64(b, f->number, v) : 0;
    case BOOL:
        memcpy(&flag, at, sizeof(flag));
        return flag ? msg_put_u64(b, f->number, 1) : 0;
    case TEXT:
        text = (const char *)at;
        return *text ? msg_put_bytes(b, f->number, text, strnlen(text, f->size - 1)) : 0;
    case ALLOC:
        memcpy(&text, at, sizeof(text));
        return msg_put_string(b, f->number, text);
    case LIST:
        list = (const void *)at;
        if (list->n > MSG_MAX_ARGS)
            return -E2BIG;
        for (size_t i = 0; r == 0 && i < list->n; i++)
            r = msg_put_string(b, f->number, list->v[i]);
        return r;
    default:
        memcpy(&n, base + f->len_offset, sizeof(n));
        if (n > f->size)
            return -EMSGSIZE;
        return n ? msg_put_bytes(b, f->number, at, n) : 0;
    }
}

static int encode(struct buf *b, uint8_t type, const struct field *fields, size_t n_fields, const void *m)
{
    int r = msg_begin(b, type);
    for (size_t i = 0; r == 0 && i < n_fields; i++)
        r = encode_field(b, &fields[i], (const uint8_t *)m + fields[i].offset, m);
    return r;
}

static void decode_field(struct msg_reader *r, const struct field *f, uint8_t *at, uint8_t *base)
{
    uint64_t v;
    char *text;
    size_t n;
    bool flag;
    switch (f->kind) {
    case U64:
        v = msg_u64(r);
        memcpy(at, &v, sizeof(v));
        break;
    case STATUS:
        v = msg_u64(r);
        memcpy(at, &v, sizeof(v));
        if (v > UINT8_MAX)
            r->error = -EPROTO;
        break;
    case BOOL:
        flag = msg_u64(r) != 0;
        memcpy(at, &flag, sizeof(flag));
        break;
    case TEXT:
        read_text(r, (char *)at, f->size);
        break;
    case ALLOC:
        memcpy(&text, at, sizeof(text));
        free(text); /* a field that comes twice: the last one counts */
        text = read_alloc(r);
        memcpy(at, &text, sizeof(text));
        break;
    case LIST:
        text = read_alloc(r);
        if (text) {
            int e = msg_strings_add((struct msg_strings *)(void *)at, text);
            if (e < 0)
                r->error = e == -E2BIG ? -EPROTO : e;
        }
        break;
    default:
        if (r->len > f->size) {
            r->error = -EPROTO;
            break;
        }
        if (r->len)
            memcpy(at, r->data, r->len);
        n = r->len;
        memcpy(base + f->len_offset, &n, sizeof(n));
    }
}

static int decode(void *m, uint8_t type, const struct field *fields, size_t n_fields, const void *p, size_t n)
{
    struct msg_reader r;
    int e = msg_open(&r, p, n);
    if (e < 0 || r.type != type)
        return -EPROTO;
    while (msg_next(&r))
        for (size_t i = 0; i < n_fields; i++)
            if (fields[i].number == r.field)
                decode_field(&r, &fields[i], (uint8_t *)m + fields[i].offset, m);
    return r.error;
}

static void done(void *m, const struct field *fields, size_t n_fields)
{
    for (size_t i = 0; i < n_fields; i++) {
        uint8_t *at = (uint8_t *)m + fields[i].offset;
        if (fields[i].kind == LIST)
            msg_strings_done((struct msg_strings *)(void *)at);
        if (fields[i].kind == ALLOC) {
            char *text;
            memcpy(&text, at, sizeof(text));
            free(text);
            memset(at, 0, sizeof(text));
        }
    }
}

#define MESSAGE(name, TYPE, ...)                                                                                       \
    static const struct field name##_fields[] = {__VA_ARGS__};                                                         \
    int msg_##name##_encode(struct buf *b, const struct msg_##name *m)                                                 \
    {                                                                                                                  \
        return encode(b, TYPE, name##_fields, ARRAY_SIZE(name##_fields), m);                                           \
    }                                                                                                                  \
    int msg_##name##_decode(struct msg_##name *m, const void *p, size_t n)                                             \
    {                                                                                                                  \
        return decode(m, TYPE, name##_fields, ARRAY_SIZE(name##_fields), p, n);                                        \
    }

/* Messages whose decoded struct owns memory: a failed decode frees what it had. */
#define MESSAGE_OWNING(name, TYPE, ...)                                                                                \
    static const struct field name##_fields[] = {__VA_ARGS__};                                                         \
    int msg_##name##_encode(struct buf *b, const struct msg_##name *m)                                                 \
    {                                                                                                                  \
        return encode(b, TYPE, name##_fields, ARRAY_SIZE(name##_fields), m);                                           \
    }                                                                                                                  \
    int msg_##name##_decode(struct msg_##name *m, const void *p, size_t n)                                             \
    {                                                                                                                  \
        int r = decode(m, TYPE, name##_fields, ARRAY_SIZE(name##_fields), p, n);                                       \
        if (r < 0)                                                                                                     \
            done(m, name##_fields, ARRAY_SIZE(name##_fields));                                                         \
        return r;                                                                                                      \
    }                                                                                                                  \
    void msg_##name##_done(struct msg_##name *m)                                                                       \
    {                                                                                                                  \
        done(m, name##_fields, ARRAY_SIZE(name##_fields));                                                             \
    }

MESSAGE(hello, MSG_HELLO, F_U64(1, msg_hello, protocol), F_TEXT(2, msg_hello, role), F_TEXT(3, msg_hello, kernel),
        F_U64(4, msg_hello, boot_ns), F_U64(5, msg_hello, ready_ns))
MESSAGE(log, MSG_LOG, F_TEXT(1, msg_log, text))
MESSAGE(service, MSG_SERVICE, F_TEXT(1, msg_service, name), F_TEXT(2, msg_service, state),
        F_STATUS(3, msg_service, code))
MESSAGE(services, MSG_SERVICES, F_TEXT(1, msg_services, state), F_TEXT(2, msg_services, problem))
MESSAGE(configure, MSG_CONFIGURE, F_TEXT(1, msg_configure, hostname), F_U64(2, msg_configure, wall_ns),
        F_BYTES(3, msg_configure, seed, seed_len), F_TEXT(4, msg_configure, address), F_TEXT(5, msg_configure, gateway),
        F_TEXT(6, msg_configure, dns), F_BOOL(7, msg_configure, store_check), F_TEXT(8, msg_configure, machine_id),
        F_BOOL(9, msg_configure, copied), F_U64(10, msg_configure, window), F_U64(11, msg_configure, mtu),
        F_TEXT(12, msg_configure, mac), F_TEXT(13, msg_configure, address6), F_BOOL(14, msg_configure, unlinked))
MESSAGE(configured, MSG_CONFIGURED, F_TEXT(1, msg_configured, problem), F_TEXT(2, msg_configured, address),
        F_TEXT(3, msg_configured, store), F_U64(4, msg_configured, window), F_BOOL(5, msg_configured, services),
        F_BOOL(6, msg_configured, slow), F_BOOL(7, msg_configured, connects), F_BOOL(8, msg_configured, moves))
MESSAGE(ending, MSG_ENDING, F_U64(1, msg_ending, how))
MESSAGE(clock, MSG_CLOCK, F_U64(1, msg_clock, wall_ns))
MESSAGE(seed, MSG_SEED, F_BYTES(1, msg_seed, seed, len))
MESSAGE_OWNING(exec, MSG_EXEC, F_LIST(1, msg_exec, argv), F_LIST(2, msg_exec, env), F_ALLOC(3, msg_exec, cwd),
               F_ALLOC(4, msg_exec, user), F_BOOL(5, msg_exec, terminal), F_U64(6, msg_exec, rows),
               F_U64(7, msg_exec, cols))
MESSAGE(long, MSG_LONG, F_U64(1, msg_long, size))
MESSAGE(part, MSG_PART, F_BYTES(1, msg_part, bytes, len))
MESSAGE(signal, MSG_SIGNAL, F_U64(1, msg_signal, number))
MESSAGE(winsize, MSG_WINSIZE, F_U64(1, msg_winsize, rows), F_U64(2, msg_winsize, cols))
MESSAGE(exit, MSG_EXIT, F_STATUS(1, msg_exit, code), F_TEXT(2, msg_exit, problem))
MESSAGE(flood, MSG_FLOOD, F_U64(1, msg_flood, send))
MESSAGE(entry, MSG_ENTRY, F_U64(1, msg_entry, kind), F_TEXT(2, msg_entry, path), F_U64(3, msg_entry, mode),
        F_U64(4, msg_entry, size), F_TEXT(5, msg_entry, target), F_BYTES(6, msg_entry, key, key_len),
        F_BOOL(7, msg_entry, kept))
MESSAGE(offer, MSG_OFFER, F_BYTES(1, msg_offer, keys, len))
MESSAGE(want, MSG_WANT, F_BYTES(1, msg_want, wanted, len))
MESSAGE_OWNING(build, MSG_BUILD, F_ALLOC(1, msg_build, remote), F_ALLOC(2, msg_build, subdir),
               F_ALLOC(3, msg_build, attr), F_ALLOC(4, msg_build, system), F_BOOL(6, msg_build, offline),
               F_LIST(7, msg_build, options), F_LIST(8, msg_build, inputs), F_BOOL(9, msg_build, manifest),
               F_U64(MSG_BUILD_MAX_JOBS, msg_build, max_jobs), F_LIST(21, msg_build, env), F_LIST(22, msg_build, known),
               F_U64(70, msg_build, last_modified), F_ALLOC(71, msg_build, rev), F_U64(72, msg_build, rev_count),
               F_ALLOC(73, msg_build, store_name), F_ALLOC(74, msg_build, nar_hash), F_ALLOC(75, msg_build, nar_hex),
               F_U64(76, msg_build, nar_size))
MESSAGE(phase, MSG_PHASE, F_TEXT(1, msg_phase, name), F_U64(2, msg_phase, before))
MESSAGE_OWNING(result, MSG_RESULT, F_BOOL(1, msg_result, ok), F_STATUS(2, msg_result, exit_code),
               F_TEXT(3, msg_result, phase), F_TEXT(4, msg_result, problem), F_TEXT(6, msg_result, store_path),
               F_ALLOC(7, msg_result, available), F_U64(8, msg_result, eval_ns), F_U64(9, msg_result, build_ns),
               F_U64(10, msg_result, stage_ns), F_U64(11, msg_result, extract_ns), F_TEXT(12, msg_result, kind))
MESSAGE(connect, MSG_CONNECT, F_U64(1, msg_connect, port), F_U64(2, msg_connect, protocol),
        F_U64(3, msg_connect, window))
MESSAGE_OWNING(ports, MSG_PORTS, F_LIST(1, msg_ports, publish), F_LIST(2, msg_ports, unpublish),
               F_BOOL(3, msg_ports, tied))
MESSAGE(idle, MSG_IDLE, F_U64(1, msg_idle, idle_ms))
MESSAGE(save, MSG_SAVE, F_TEXT(1, msg_save, folder))
MESSAGE(saved, MSG_SAVED, F_TEXT(1, msg_saved, problem), F_U64(2, msg_saved, protocol), F_TEXT(3, msg_saved, kernel),
        F_U64(4, msg_saved, stopped_ns), F_BOOL(5, msg_saved, other_folder))
MESSAGE(status, MSG_STATUS_REPLY, F_TEXT(1, msg_status, state), F_TEXT(2, msg_status, problem),
        F_TEXT(3, msg_status, hint), F_TEXT(4, msg_status, detail), F_U64(5, msg_status, vmm_pid),
        F_U64(6, msg_status, ready_ns), F_U64(7, msg_status, spawn_ns), F_U64(8, msg_status, hello_ns),
        F_U64(9, msg_status, guest_boot_ns), F_U64(10, msg_status, guest_ready_ns), F_TEXT(11, msg_status, address),
        F_TEXT(12, msg_status, store), F_TEXT(13, msg_status, mode), F_TEXT(14, msg_status, cold_reason),
        F_U64(16, msg_status, clients), F_U64(17, msg_status, idle_ms), F_TEXT(18, msg_status, steps),
        F_BOOL(20, msg_status, confined), F_TEXT(21, msg_status, confinement), F_TEXT(22, msg_status, own_confinement),
        F_TEXT(24, msg_status, services), F_TEXT(25, msg_status, services_problem), F_TEXT(26, msg_status, limits),
        F_TEXT(27, msg_status, ports), F_TEXT(28, msg_status, network), F_U64(29, msg_status, port_connections),
        F_U64(30, msg_status, ports_connected))
MESSAGE_OWNING(store, MSG_STORE, F_LIST(1, msg_store, live), F_U64(2, msg_store, above), F_U64(3, msg_store, target),
               F_BOOL(4, msg_store, survey), F_U64(5, msg_store, surveyed))
MESSAGE(store_reply, MSG_STORE_REPLY, F_U64(1, msg_store_reply, size), F_U64(2, msg_store_reply, used),
        F_U64(3, msg_store_reply, freed), F_BOOL(4, msg_store_reply, surveyed), F_U64(5, msg_store_reply, reclaimable),
        F_TEXT(6, msg_store_reply, problem))

/* Push and pull share a struct. */
static const struct field transfer_fields[] = {F_ALLOC(1, msg_transfer, path), F_BOOL(2, msg_transfer, follow)};

int msg_transfer_encode(struct buf *b, uint8_t type, const struct msg_transfer *m)
{
    return encode(b, type, transfer_fields, ARRAY_SIZE(transfer_fields), m);
}

int msg_transfer_decode(struct msg_transfer *m, uint8_t type, const void *p, size_t n)
{
    int r = decode(m, type, transfer_fields, ARRAY_SIZE(transfer_fields), p, n);
    if (r < 0)
        msg_transfer_done(m);
    return r;
}

void msg_transfer_done(struct msg_transfer *m)
{
    done(m, transfer_fields, ARRAY_SIZE(transfer_fields));
}
