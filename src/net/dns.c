#include "net/dns.h"
#include "base/macros.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER   12
#define CLASS_IN 1
#define POINTER  0xc0

enum { FLAG_ANSWER = 0x80, FLAG_TRUNCATED = 0x02, FLAG_RECURSION = 0x01 }; /* of byte 2 */
enum { FLAG_RECURSES = 0x80 };                                             /* of byte 3 */

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* ---- Names ---- */

/* Lengths of labels are no letters. */
static void lower(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] += 'a' - 'A';
}

/* The name at *at, which then is what follows it. Each pointer leads to before all that was read for this name. */
static int read_name(const uint8_t *p, size_t n, size_t *at, struct dns_name *ret)
{
    size_t i = *at, before = i, len = 0;
    bool jumped = false;
    for (;;) {
        if (i >= n)
            return -EBADMSG;
        uint8_t c = p[i];
        if ((c & POINTER) == POINTER) {
            size_t to = i + 1 < n ? be16(p + i) & 0x3fffu : n;
            if (to >= before)
                return -EBADMSG;
            if (!jumped)
                *at = i + 2;
            jumped = true;
            before = i = to;
            continue;
        }
        if (c & POINTER || i + 1 + c > n || len + 1 + c > sizeof(ret->wire))
            return -EBADMSG;
        memcpy(ret->wire + len, p + i, 1u + c);
        len += 1u + c;
        i += 1u + c;
        if (c == 0)
            break;
    }
    if (!jumped)
        *at = i;
    ret->len = (uint8_t)len;
    return 0;
}

bool dns_name_text(const struct dns_name *n, char text[DNS_MAX_TEXT])
{
    size_t o = 0, i = 0;
    while (i < n->len && n->wire[i]) {
        size_t end = i + 1 + n->wire[i];
        if (o)
            text[o++] = '.';
        for (i++; i < end; i++) {
            uint8_t c = n->wire[i];
            if (!c || !strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", c))
                return false;
            text[o++] = (char)c;
        }
    }
    text[o] = '\0';
    return o > 0;
}

bool dns_name_from(const char *text, struct dns_name *ret)
{
    size_t len = 0;
    while (*text) {
        size_t n = strcspn(text, ".");
        if (!n || n > 63 || len + 1 + n + 1 > sizeof(ret->wire))
            return false;
        ret->wire[len++] = (uint8_t)n;
        memcpy(ret->wire + len, text, n);
        len += n;
        text += n;
        if (*text == '.' && !*++text)
            return false;
    }
    if (!len)
        return false;
    lower(ret->wire, len);
    ret->wire[len++] = 0;
    ret->len = (uint8_t)len;
    return true;
}

bool dns_name_equal(const struct dns_name *a, const struct dns_name *b)
{
    return a->len == b->len && memcmp(a->wire, b->wire, a->len) == 0;
}

/* The label before `end`, which it moves to the dot before it; NULL for none. */
static const char *last_label(const char *text, const char **end, size_t *ret_len)
{
    const char *at = *end;
    if (at == text)
        return NULL;
    const char *from = at;
    while (from > text && from[-1] != '.')
        from--;
    *ret_len = (size_t)(at - from);
    *end = from > text ? from - 1 : from;
    return from;
}

static int reverse_part(const char *s, size_t n, int base)
{
    char digits[4] = "", *end;
    if (n == 0 || n > (base == 10 ? 3 : 1))
        return -1;
    memcpy(digits, s, n);
    long v = strtol(digits, &end, base);
    return *end || digits[0] == '-' || v > (base == 10 ? 255 : 15) ? -1 : (int)v;
}

size_t dns_reverse_address(const char *text, uint8_t ip[16])
{
    static const struct {
        const char *zone;
        size_t labels, bytes;
        int base;
    } zones[] = {{".in-addr.arpa", 4, 4, 10}, {".ip6.arpa", 32, 16, 16}};
    size_t n = strlen(text);
    for (size_t z = 0; z < ARRAY_SIZE(zones); z++) {
        size_t zone = strlen(zones[z].zone), len, i = 0;
        if (n <= zone || strcmp(text + n - zone, zones[z].zone) != 0)
            continue;
        const char *end = text + n - zone, *label;
        memset(ip, 0, 16);
        while ((label = last_label(text, &end, &len))) {
            int v = reverse_part(label, len, zones[z].base);
            if (v < 0 || i == zones[z].labels)
                return 0;
            if (zones[z].base == 10)
                ip[i] = (uint8_t)v;
            else
                ip[i / 2] |= (uint8_t)(i % 2 ? v : v << 4);
            i++;
        }
        return i == zones[z].labels ? zones[z].bytes : 0;
    }
    return 0;
}

/* ---- Queries ---- */

/* Whole zones, everything at once, and what is no data. */
static bool is_no_data(uint16_t type)
{
    return type == 0 || type == DNS_OPT || (type >= 249 && type <= 255);
}

static int read_question(const uint8_t *p, size_t n, size_t *at, struct dns_name *name, uint8_t spelled[255],
                         uint16_t *ret_type, uint16_t *ret_class)
{
    if (read_name(p, n, at, name) < 0 || n - *at < 4)
        return -EBADMSG;
    memcpy(spelled, name->wire, name->len);
    lower(name->wire, name->len);
    *ret_type = be16(p + *at);
    *ret_class = be16(p + *at + 2);
    *at += 4;
    return 0;
}

/* The additional section of a query: EDNS or nothing. */
static int read_edns(const uint8_t *p, size_t n, size_t at, struct dns_query *ret)
{
    /* Empty name, type, size, extended code, version, flags, length. */
    if (n - at < 11 || p[at] || be16(p + at + 1) != DNS_OPT || p[at + 6])
        return DNS_FORMERR;
    uint16_t size = be16(p + at + 3);
    ret->edns = true;
    ret->size = MIN_OF(MAX_OF(size, DNS_PLAIN_SIZE), DNS_EDNS_SIZE);
    return 0;
}

int dns_parse_query(const uint8_t *p, size_t n, struct dns_query *ret)
{
    *ret = (struct dns_query){.size = DNS_PLAIN_SIZE};
    if (n < HEADER || p[2] & FLAG_ANSWER)
        return -EBADMSG;
    ret->id = be16(p);
    ret->recursion = p[2] & FLAG_RECURSION;
    if (p[2] & 0x78)
        return DNS_NOTIMP;
    if (n > DNS_MAX_QUERY || be16(p + 4) != 1 || be16(p + 6) || be16(p + 8) || be16(p + 10) > 1)
        return DNS_FORMERR;
    struct dns_query q = *ret;
    size_t at = HEADER;
    uint16_t class;
    if (read_question(p, n, &at, &q.name, q.spelled, &q.type, &class) < 0)
        return DNS_FORMERR;
    if (class != CLASS_IN)
        return DNS_REFUSED;
    *ret = q;
    if (be16(p + 10) && read_edns(p, n, at, ret) != 0)
        return DNS_FORMERR;
    return is_no_data(q.type) ? DNS_NOTIMP : 0;
}

size_t dns_build_query(uint8_t *out, size_t cap, uint16_t id, const uint8_t *spelled, size_t spelled_len, uint16_t type,
                       bool edns)
{
    size_t n = HEADER + spelled_len + 4, all = n + (edns ? 11 : 0);
    if (cap < all)
        return 0;
    memset(out, 0, all);
    put16(out, id);
    out[2] = FLAG_RECURSION;
    out[5] = 1;
    memcpy(out + HEADER, spelled, spelled_len);
    put16(out + n - 4, type);
    put16(out + n - 2, CLASS_IN);
    if (edns) {
        out[11] = 1;
        put16(out + n + 1, DNS_OPT);
        put16(out + n + 3, DNS_EDNS_SIZE);
    }
    return all;
}

/* ---- Answers that are read ---- */

int dns_read_head(struct dns_reader *r, const uint8_t *p, size_t n, struct dns_head *ret)
{
    if (n < HEADER || n > DNS_MAX_MESSAGE || !(p[2] & FLAG_ANSWER) || p[2] & 0x78 || be16(p + 4) != 1)
        return -EBADMSG;
    size_t at = HEADER;
    *ret = (struct dns_head){.id = be16(p), .rcode = p[3] & 15, .truncated = p[2] & FLAG_TRUNCATED};
    if (read_question(p, n, &at, &ret->name, ret->spelled, &ret->type, &ret->class) < 0)
        return -EBADMSG;
    *r = (struct dns_reader){.p = p, .n = n, .at = at, .left = {be16(p + 6), be16(p + 8)}};
    return 0;
}

int dns_read_record(struct dns_reader *r, struct dns_record *ret)
{
    while (r->section < 2 && !r->left[r->section])
        r->section++;
    if (r->section == 2)
        return 0;
    if (r->seen++ == DNS_MAX_RECORDS || read_name(r->p, r->n, &r->at, &ret->name) < 0 || r->n - r->at < 10)
        return -EBADMSG;
    lower(ret->name.wire, ret->name.len);
    const uint8_t *p = r->p + r->at;
    *ret = (struct dns_record){
        .section = r->section,
        .name = ret->name,
        .type = be16(p),
        .class = be16(p + 2),
        .ttl = be32(p + 4) & 0x80000000u ? 0 : be32(p + 4), /* RFC 2181 section 8 */
        .data = p + 10,
        .len = be16(p + 8),
    };
    if (r->n - r->at - 10 < ret->len)
        return -EBADMSG;
    r->at += 10u + ret->len;
    r->left[r->section]--;
    return 1;
}

/* Where the content of a type has names that may be compressed (RFC 3597 section 4), and how long those without are. */
static const struct content {
    uint16_t type;
    uint8_t before, names, behind;
} contents[] = {
    {DNS_A, 4, 0, 0},     {DNS_AAAA, 16, 0, 0}, {DNS_NS, 0, 1, 0},  {3, 0, 1, 0},  {4, 0, 1, 0},
    {DNS_CNAME, 0, 1, 0}, {DNS_SOA, 0, 2, 20},  {7, 0, 1, 0},       {8, 0, 1, 0},  {9, 0, 1, 0},
    {DNS_PTR, 0, 1, 0},   {14, 0, 2, 0},        {DNS_MX, 2, 1, 0},  {17, 0, 2, 0}, {18, 2, 1, 0},
    {21, 2, 1, 0},        {26, 2, 2, 0},        {DNS_SRV, 6, 1, 0}, {36, 2, 1, 0}, {39, 0, 1, 0},
};

ssize_t dns_read_data(const struct dns_reader *r, const struct dns_record *rec, uint8_t *out, size_t cap)
{
    const struct content *c = contents, *end = contents + ARRAY_SIZE(contents);
    while (c < end && c->type != rec->type)
        c++;
    size_t fixed = c < end ? c->before : rec->len, n = fixed;
    size_t at = (size_t)(rec->data - r->p), stop = at + rec->len;
    if (fixed > rec->len || fixed > cap)
        return -EBADMSG;
    memcpy(out, rec->data, fixed);
    at += fixed;
    for (unsigned i = 0; c < end && i < c->names; i++) {
        struct dns_name name;
        if (read_name(r->p, stop, &at, &name) < 0 || n + name.len > cap)
            return -EBADMSG;
        memcpy(out + n, name.wire, name.len);
        n += name.len;
    }
    size_t behind = c < end ? c->behind : 0;
    if (at + behind != stop || n + behind > cap)
        return -EBADMSG;
    memcpy(out + n, r->p + at, behind);
    return (ssize_t)(n + behind);
}

/* ---- Answers that are written ---- */

#define EDNS_ROOM 11

void dns_write_begin(struct dns_writer *w, uint8_t *out, size_t cap, const struct dns_query *q, uint8_t rcode)
{
    *w = (struct dns_writer){.p = out, .cap = cap, .n = HEADER, .edns = q->edns};
    memset(out, 0, HEADER);
    put16(out, q->id);
    out[2] = (uint8_t)(FLAG_ANSWER | (q->recursion ? FLAG_RECURSION : 0));
    out[3] = (uint8_t)(FLAG_RECURSES | rcode);
    if (q->name.len) {
        out[5] = 1;
        memcpy(out + w->n, q->spelled, q->name.len);
        w->n += q->name.len;
        put16(out + w->n, q->type);
        put16(out + w->n + 2, CLASS_IN);
        w->n += 4;
    }
    w->question_end = w->n;
}

static bool is_asked_name(const struct dns_writer *w, const struct dns_name *name)
{
    struct dns_name asked = {.len = (uint8_t)(w->question_end - HEADER - 4)};
    if (w->question_end == HEADER || asked.len != name->len)
        return false;
    memcpy(asked.wire, w->p + HEADER, asked.len);
    lower(asked.wire, asked.len);
    return dns_name_equal(&asked, name);
}

void dns_write_record(struct dns_writer *w, unsigned section, const struct dns_name *name, uint16_t type, uint32_t ttl,
                      const uint8_t *data, uint16_t len)
{
    static const uint8_t question[2] = {POINTER, HEADER};
    bool asked = is_asked_name(w, name);
    size_t name_len = asked ? sizeof(question) : name->len, all = name_len + 10 + len;
    if (w->truncated)
        return;
    if (w->cap - w->n < all + (w->edns ? EDNS_ROOM : 0)) {
        w->truncated = true;
        return;
    }
    uint8_t *p = w->p + w->n;
    memcpy(p, asked ? question : name->wire, name_len);
    p += name_len;
    put16(p, type);
    put16(p + 2, CLASS_IN);
    put16(p + 4, ttl >> 16);
    put16(p + 6, ttl & 0xffff);
    put16(p + 8, len);
    if (len)
        memcpy(p + 10, data, len);
    w->n += all;
    w->count[section]++;
}

size_t dns_write_end(struct dns_writer *w)
{
    if (w->truncated) {
        w->n = w->question_end;
        w->count[0] = w->count[1] = 0;
        w->p[2] |= FLAG_TRUNCATED;
    }
    put16(w->p + 6, w->count[0]);
    put16(w->p + 8, w->count[1]);
    if (w->edns) {
        w->p[11] = 1;
        memset(w->p + w->n, 0, EDNS_ROOM);
        put16(w->p + w->n + 1, DNS_OPT);
        put16(w->p + w->n + 3, DNS_EDNS_SIZE);
        w->n += EDNS_ROOM;
    }
    return w->n;
}

ssize_t dns_stream_message(const uint8_t *p, size_t n, size_t max)
{
    if (n < 2)
        return 0;
    size_t len = be16(p);
    if (len < HEADER || len > max)
        return -EMSGSIZE;
    return n - 2 < len ? 0 : (ssize_t)(len + 2);
}
