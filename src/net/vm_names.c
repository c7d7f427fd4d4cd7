#include "net/vm_names.h"

#include <string.h>

static size_t answer_address(const struct dns_query *q, unsigned member, uint8_t *out)
{
    const struct address v4 = layout_address(member), v6 = layout_address6(member);
    struct dns_writer w;
    dns_write_begin(&w, out, DNS_PLAIN_SIZE, q, DNS_NOERROR);
    if (q->type == DNS_A)
        dns_write_record(&w, 0, &q->name, q->type, VM_NAMES_TTL, address_v4(&v4), 4);
    else if (q->type == DNS_AAAA)
        dns_write_record(&w, 0, &q->name, q->type, VM_NAMES_TTL, v6.b, 16);
    return dns_write_end(&w);
}

static size_t answer_name(const struct peers *p, const struct dns_query *q, unsigned member, uint8_t *out)
{
    char text[DNS_MAX_TEXT];
    struct dns_name name;
    struct dns_writer w;
    if (!peers_full_name(p, member, text, sizeof(text)) || !dns_name_from(text, &name))
        return 0;
    dns_write_begin(&w, out, DNS_PLAIN_SIZE, q, DNS_NOERROR);
    if (q->type == DNS_PTR)
        dns_write_record(&w, 0, &q->name, q->type, VM_NAMES_TTL, name.wire, name.len);
    return dns_write_end(&w);
}

size_t vm_names_answer(const struct peers *p, const struct dns_query *q, const char *name,
                       uint8_t out[static DNS_PLAIN_SIZE])
{
    uint8_t ip[16];
    unsigned member = peers_find(p, name);
    if (member)
        return answer_address(q, member, out);
    size_t n = p->own ? dns_reverse_address(name, ip) : 0;
    if (!n)
        return 0;
    const struct address a = n == 4 ? address_from4(ip) : address_from6(ip);
    member = layout_member(&a);
    return member ? answer_name(p, q, member, out) : 0;
}
