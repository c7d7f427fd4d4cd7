/*
 * DNS messages (RFC 1035, EDNS by RFC 6891). Names are held as they travel, uncompressed and in lower case. A pointer
 * leads only to what is before it, so that none loops; names, records and messages are capped before they are read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DNS_MAX_QUERY   512   /* bytes of a query that is read */
#define DNS_MAX_MESSAGE 16384 /* of an answer */
#define DNS_MAX_RECORDS 512   /* of an answer that are looked at */
#define DNS_PLAIN_SIZE  512   /* of an answer over UDP without EDNS */
#define DNS_EDNS_SIZE   1232  /* what we take over UDP ourselves, and give at most (DNS flag day 2020) */
#define DNS_MAX_TEXT    254   /* with the NUL */

enum {
    DNS_A = 1,
    DNS_NS = 2,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_AAAA = 28,
    DNS_SRV = 33,
    DNS_OPT = 41
};
enum { DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5 };

struct dns_name {
    uint8_t len; /* with the root's empty label; 0: none */
    uint8_t wire[255];
};

/* What is asked; one question. */
struct dns_query {
    uint16_t id, type;
    bool recursion; /* wanted */
    bool edns;
    uint16_t size; /* of the answer that the asker takes over UDP, within our bounds */
    struct dns_name name;
    uint8_t spelled[255]; /* the name as it was spelled: it is answered so */
};

/* 0; -EBADMSG where there is nothing to answer; a positive rcode to answer with, *ret then is filled as far as the
 * answer needs it (id; the question where it was readable). */
int dns_parse_query(const uint8_t *p, size_t n, struct dns_query *ret);
/* Builds a query: one question, spelled as it is given, with EDNS or without. The length, 0 where cap does not do. */
size_t dns_build_query(uint8_t *out, size_t cap, uint16_t id, const uint8_t *spelled, size_t spelled_len, uint16_t type,
                       bool edns);

/* From and to text: lower case, no dot at the end, letters, digits, '-' and '_' only. False where it is none such. */
bool dns_name_text(const struct dns_name *n, char text[DNS_MAX_TEXT]);
bool dns_name_from(const char *text, struct dns_name *ret);
bool dns_name_equal(const struct dns_name *a, const struct dns_name *b);
/* The address that a name below in-addr.arpa or ip6.arpa stands for, as 4 or 16 bytes: their number, 0 where it is
 * none. */
size_t dns_reverse_address(const char *text, uint8_t ip[16]);

/* An answer that is read record by record. */
struct dns_reader {
    const uint8_t *p;
    size_t n, at;
    uint16_t left[2]; /* records of the sections answer, authority */
    unsigned section, seen;
};

struct dns_head {
    uint16_t id, type, class;
    uint8_t rcode;
    bool truncated;
    struct dns_name name;
    uint8_t spelled[255];
};

struct dns_record {
    unsigned section; /* 0 answer, 1 authority */
    struct dns_name name;
    uint16_t type, class;
    uint32_t ttl;
    const uint8_t *data; /* within the message; names in it may be compressed */
    uint16_t len;
};

/* 0 or -EBADMSG: an answer with one question. */
int dns_read_head(struct dns_reader *r, const uint8_t *p, size_t n, struct dns_head *ret);
/* 1 and the next record, 0 at the end, -EBADMSG. */
int dns_read_record(struct dns_reader *r, struct dns_record *ret);
/* The record's content with its names uncompressed, at most cap bytes: the length or -EBADMSG, also for a content whose
 * length is not that of its type. */
ssize_t dns_read_data(const struct dns_reader *r, const struct dns_record *rec, uint8_t *out, size_t cap);

/* An answer that is written. */
struct dns_writer {
    uint8_t *p;
    size_t cap, n, question_end;
    uint16_t count[2];
    bool truncated, edns;
};

/* cap: the asker's size over UDP, DNS_MAX_MESSAGE over TCP; at least DNS_PLAIN_SIZE. */
void dns_write_begin(struct dns_writer *w, uint8_t *out, size_t cap, const struct dns_query *q, uint8_t rcode);
/* Those of section 0 before those of section 1. What does not fit makes the answer truncated: it then has no records.
 */
void dns_write_record(struct dns_writer *w, unsigned section, const struct dns_name *name, uint16_t type, uint32_t ttl,
                      const uint8_t *data, uint16_t len);
/* The length. */
size_t dns_write_end(struct dns_writer *w);

/* TCP: how long the whole message at the start of n bytes is with its two bytes of length, 0 where it is not there yet,
 * -EMSGSIZE where it says more than max (or less than a header). */
ssize_t dns_stream_message(const uint8_t *p, size_t n, size_t max);
