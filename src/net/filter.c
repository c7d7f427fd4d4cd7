#include "net/filter.h"
#include "base/macros.h"

#include <errno.h>
#include <string.h>

#define MAX_DATA  8192 /* of one record */
#define MAX_CHAIN 16   /* aliases, one after the other */
#define CLASS_IN  1

struct filtering {
    struct policy *policy;
    const struct dns_query *q;
    const char *name;   /* that was asked for */
    struct dns_name at; /* where its aliases have led so far */
    unsigned aliases;
    uint32_t ttl; /* the least so far */
    uint64_t now;
    struct dns_writer w;
    struct filter_result *ret;
};

/* Whether the guest may know this address. */
static bool take_address(struct filtering *f, uint16_t type, const uint8_t *data, uint32_t ttl)
{
    struct address a = type == DNS_A ? address_from4(data) : address_from6(data);
    if (!policy_may_answer(f->policy, f->name, &a)) {
        f->ret->filtered = true;
        f->ret->refused = a;
        return false;
    }
    policy_learn(f->policy, f->name, &a, ttl, f->now);
    f->ret->addresses++;
    return true;
}

static int take_alias(struct filtering *f, const uint8_t *data, size_t len)
{
    if (++f->aliases > MAX_CHAIN)
        return -EBADMSG;
    f->at = (struct dns_name){.len = (uint8_t)len}; /* one name: dns_read_data has checked it */
    memcpy(f->at.wire, data, len);
    for (size_t i = 0; i < len; i++)
        if (f->at.wire[i] >= 'A' && f->at.wire[i] <= 'Z')
            f->at.wire[i] += 'a' - 'A';
    return 0;
}

static int take_record(struct filtering *f, const struct dns_reader *r, const struct dns_record *rec)
{
    uint8_t data[MAX_DATA];
    bool soa = rec->section == 1 && rec->type == DNS_SOA;
    bool wanted =
        rec->section == 0 && dns_name_equal(&rec->name, &f->at) && (rec->type == f->q->type || rec->type == DNS_CNAME);
    if (rec->class != CLASS_IN || (!soa && !wanted))
        return 0;
    if (soa && f->w.count[0] > f->aliases)
        return 0; /* it says how long there is nothing */
    ssize_t n = dns_read_data(r, rec, data, sizeof(data));
    if (n < 0)
        return (int)n;
    f->ttl = MIN_OF(f->ttl, rec->ttl);
    bool address = rec->type == DNS_A || rec->type == DNS_AAAA;
    if (wanted && address && !take_address(f, rec->type, data, f->ttl))
        return 0;
    struct dns_name owner = rec->name;
    if (wanted && rec->type == DNS_CNAME && f->q->type != DNS_CNAME) {
        int e = take_alias(f, data, (size_t)n);
        if (e < 0)
            return e;
    }
    dns_write_record(&f->w, rec->section, &owner, rec->type, f->ttl, data, (uint16_t)n);
    return 0;
}

int filter_answer(struct policy *p, const struct dns_query *q, const char *name, struct dns_reader *r,
                  const struct dns_head *head, uint8_t *out, size_t cap, uint64_t now, struct filter_result *ret)
{
    struct filtering f = {
        .policy = p, .q = q, .name = name, .at = q->name, .ttl = POLICY_MAX_TTL, .now = now, .ret = ret};
    *ret = (struct filter_result){0};
    dns_write_begin(&f.w, out, cap, q, head->rcode);
    struct dns_record rec;
    int e;
    while ((e = dns_read_record(r, &rec)) > 0) {
        e = take_record(&f, r, &rec);
        if (e < 0)
            break;
    }
    if (e < 0)
        return e;
    ret->len = dns_write_end(&f.w);
    return 0;
}
