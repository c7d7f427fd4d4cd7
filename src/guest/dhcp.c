#include "guest/dhcp.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#define SERVER_PORT 67
#define CLIENT_PORT 68
#define FIXED_SIZE  236 /* before the cookie */
#define OPTIONS_AT  240
#define MAX_MESSAGE 1472
#define RESEND_MS   250 /* doubled with each try */

static const uint8_t cookie[4] = {0x63, 0x82, 0x53, 0x63}; /* RFC 1497 */

enum { DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5, NAK = 6 };
enum {
    OPTION_PAD = 0,
    OPTION_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_DNS = 6,
    OPTION_ADDRESS = 50,
    OPTION_LEASE = 51,
    OPTION_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_WANTED = 55,
    OPTION_END = 255,
};

/* ---- What a server says ---- */

static void take_option(struct dhcp_lease *l, uint8_t *type, uint8_t code, const uint8_t *p, size_t n)
{
    uint32_t v;
    if (code == OPTION_TYPE && n >= 1)
        *type = p[0];
    if (n < 4)
        return;
    memcpy(&v, p, 4); /* the first of a list */
    if (code == OPTION_MASK)
        l->prefix = (unsigned char)__builtin_popcount(v);
    else if (code == OPTION_ROUTER)
        l->router.s_addr = v;
    else if (code == OPTION_DNS)
        l->dns.s_addr = v;
    else if (code == OPTION_SERVER)
        l->server.s_addr = v;
    else if (code == OPTION_LEASE)
        l->seconds = ntohl(v);
}

int dhcp_parse(const uint8_t *p, size_t n, const uint8_t mac[6], uint32_t transaction, uint8_t *ret_type,
               struct dhcp_lease *ret)
{
    *ret = (struct dhcp_lease){.prefix = 24, .seconds = 3600};
    *ret_type = 0;
    if (n < OPTIONS_AT || p[0] != 2 || memcmp(p + 4, &transaction, 4) != 0 || memcmp(p + 28, mac, 6) != 0 ||
        memcmp(p + FIXED_SIZE, cookie, 4) != 0)
        return -EBADMSG;
    memcpy(&ret->address, p + 16, 4);
    for (size_t i = OPTIONS_AT; i < n && p[i] != OPTION_END;) {
        if (p[i] == OPTION_PAD) {
            i++;
            continue;
        }
        if (i + 2 > n || p[i + 1] > n - i - 2)
            return -EBADMSG;
        take_option(ret, ret_type, p[i], p + i + 2, p[i + 1]);
        i += 2u + p[i + 1];
    }
    return *ret_type && (ret->address.s_addr || *ret_type == NAK) ? 0 : -EBADMSG;
}

/* ---- What we say ---- */

static size_t make_message(uint8_t out[static 300], uint8_t type, const uint8_t mac[6], uint32_t transaction,
                           const struct dhcp_lease *wanted)
{
    memset(out, 0, 300);
    out[0] = 1; /* request */
    out[1] = 1; /* Ethernet */
    out[2] = 6;
    memcpy(out + 4, &transaction, 4);
    out[10] = 0x80; /* answer by broadcast: the card has no address yet */
    memcpy(out + 28, mac, 6);
    memcpy(out + FIXED_SIZE, cookie, sizeof(cookie));
    uint8_t *o = out + OPTIONS_AT;
    *o++ = OPTION_TYPE;
    *o++ = 1;
    *o++ = type;
    if (wanted) {
        *o++ = OPTION_ADDRESS;
        *o++ = 4;
        memcpy(o, &wanted->address, 4);
        o += 4;
        *o++ = OPTION_SERVER;
        *o++ = 4;
        memcpy(o, &wanted->server, 4);
        o += 4;
    }
    *o++ = OPTION_WANTED;
    *o++ = 4;
    *o++ = OPTION_MASK;
    *o++ = OPTION_ROUTER;
    *o++ = OPTION_DNS;
    *o++ = OPTION_LEASE;
    *o = OPTION_END;
    return 300; /* some servers drop shorter ones */
}

static int open_socket(const char *card)
{
    CLEAN_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    const struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(CLIENT_PORT)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, card, (socklen_t)strlen(card)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Sends until the answer of a type comes. -EACCES for a refusal. */
static int converse(int fd, uint8_t type, uint8_t answer, const uint8_t mac[6], const struct dhcp_lease *wanted,
                    uint64_t deadline, struct dhcp_lease *ret)
{
    const struct sockaddr_in all = {
        .sin_family = AF_INET, .sin_port = htons(SERVER_PORT), .sin_addr.s_addr = INADDR_BROADCAST};
    uint8_t out[300], in[MAX_MESSAGE];
    uint32_t transaction;
    if (getrandom(&transaction, sizeof(transaction), 0) != (ssize_t)sizeof(transaction))
        return -EIO;
    size_t size = make_message(out, type, mac, transaction, wanted);
    for (int64_t wait = RESEND_MS; clock_left_ms(deadline) > 0; wait *= 2) {
        if (sendto(fd, out, size, 0, (const struct sockaddr *)&all, sizeof(all)) < 0)
            return -errno;
        uint64_t until = MIN_OF(clock_deadline(wait), deadline);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        while (poll(&p, 1, clock_left_ms(until)) > 0) {
            uint8_t got;
            ssize_t n = recv(fd, in, sizeof(in), 0);
            if (n < 0 || dhcp_parse(in, (size_t)n, mac, transaction, &got, ret) < 0)
                continue;
            if (got == NAK)
                return -EACCES;
            if (got == answer)
                return 0;
        }
    }
    return -ETIMEDOUT;
}

int dhcp_request(const char *card, const uint8_t mac[6], const struct dhcp_lease *again, uint64_t deadline,
                 struct dhcp_lease *ret)
{
    struct dhcp_lease offer;
    CLEAN_FD int fd = open_socket(card);
    int r = fd < 0 ? fd : 0;
    if (r == 0 && !again)
        r = converse(fd, DISCOVER, OFFER, mac, NULL, deadline, &offer);
    if (r == 0)
        r = converse(fd, REQUEST, ACK, mac, again ? again : &offer, deadline, ret);
    return r;
}
