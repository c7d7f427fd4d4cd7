/* Any bytes as a query and as an answer, over UDP and TCP: what is read can be written again. */
#include "fuzz.h"

#include "net/dns.h"

#include <errno.h>
#include <string.h>

static void as_query(const uint8_t *data, size_t size)
{
    struct dns_query q, again;
    uint8_t out[DNS_MAX_QUERY + 32];
    char text[DNS_MAX_TEXT];
    uint8_t ip[16];
    int r = dns_parse_query(data, size, &q);
    MUST(r == -EBADMSG || (r >= 0 && r < 16));
    if (r < 0)
        return;
    struct dns_writer w;
    dns_write_begin(&w, out, DNS_PLAIN_SIZE, &q, (uint8_t)r);
    size_t n = dns_write_end(&w);
    MUST(n <= DNS_PLAIN_SIZE && out[0] == data[0] && out[1] == data[1]);
    if (r > 0)
        return;
    MUST(q.name.len && q.size >= DNS_PLAIN_SIZE && q.size <= DNS_EDNS_SIZE);
    n = dns_build_query(out, sizeof(out), q.id, q.spelled, q.name.len, q.type, q.edns);
    MUST(n && dns_parse_query(out, n, &again) == 0 && dns_name_equal(&q.name, &again.name) && q.type == again.type);
    if (!dns_name_text(&q.name, text))
        return;
    MUST(strlen(text) < DNS_MAX_TEXT && dns_name_from(text, &again.name) && dns_name_equal(&q.name, &again.name));
    size_t bytes = dns_reverse_address(text, ip);
    MUST(bytes == 0 || bytes == 4 || bytes == 16);
}

static void as_answer(const uint8_t *data, size_t size)
{
    struct dns_reader r;
    struct dns_head h;
    struct dns_record rec;
    uint8_t content[4096];
    unsigned n = 0;
    int e = dns_read_head(&r, data, size, &h);
    while (e == 0 && (e = dns_read_record(&r, &rec)) == 1) {
        MUST(++n <= DNS_MAX_RECORDS && rec.section < 2 && rec.name.len && rec.data >= data &&
             rec.data + rec.len <= data + size);
        ssize_t len = dns_read_data(&r, &rec, content, sizeof(content));
        MUST(len == -EBADMSG || (len >= 0 && len <= (ssize_t)sizeof(content)));
        MUST(rec.type != DNS_A || len == 4 || len == -EBADMSG);
        e = 0;
    }
    MUST(e == 0 || e == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_query(data, size);
    as_answer(data, size);
    ssize_t n = dns_stream_message(data, size, DNS_MAX_QUERY);
    MUST(n == -EMSGSIZE || (n >= 0 && (size_t)n <= size && n <= DNS_MAX_QUERY + 2));
    return 0;
}
