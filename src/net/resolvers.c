#include "net/resolvers.h"
#include "base/clock.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PORT     53
#define FIRST_MS 2000 /* how long the first answer of the launcher is waited for */

static bool parse_one(const char *text, struct resolver *ret)
{
    char address[64];
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
    snprintf(address, sizeof(address), "%s", text);
    char *zone = strchr(address, '%');
    if (zone)
        *zone++ = '\0';
    memset(ret, 0, sizeof(*ret));
    if (!zone && inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        memcpy(&ret->address, &v4, sizeof(v4));
        ret->len = sizeof(v4);
        return true;
    }
    if (inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
        return false;
    if (zone) {
        v6.sin6_scope_id = if_nametoindex(zone);
        if (!v6.sin6_scope_id)
            v6.sin6_scope_id = (uint32_t)strtoul(zone, NULL, 10);
    }
    memcpy(&ret->address, &v6, sizeof(v6));
    ret->len = sizeof(v6);
    return true;
}

void resolvers_parse(struct resolvers *r, const char *text, size_t n)
{
    r->n = 0;
    for (size_t at = 0, end; at < n && r->n < RESOLVERS_MAX; at = end + 1) {
        char line[256], key[32], value[64];
        for (end = at; end < n && text[end] != '\n';)
            end++;
        snprintf(line, sizeof(line), "%.*s", (int)MIN_OF(end - at, sizeof(line) - 1), text + at);
        if (sscanf(line, "%31s %63s", key, value) == 2 && strcmp(key, "nameserver") == 0 &&
            parse_one(value, &r->v[r->n]))
            r->n++;
    }
    if (r->n == 0 && parse_one("127.0.0.1", &r->v[0]))
        r->n = 1;
}

/* True where the text names other ones. */
static bool replace(struct resolvers *r, const char *text, size_t n)
{
    const struct resolvers was = *r;
    resolvers_parse(r, text, n);
    return r->n != was.n || memcmp(r->v, was.v, r->n * sizeof(r->v[0])) != 0;
}

/* The length, 0 where it cannot be read. */
static size_t read_file(char text[static RESOLVERS_TEXT])
{
    CLEAN_FD int fd = open(RESOLVERS_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, RESOLVERS_TEXT);
    return n > 0 ? (size_t)n : 0;
}

bool resolvers_answer(int fd)
{
    char text[RESOLVERS_TEXT];
    ssize_t asked = recv(fd, text, sizeof(text), MSG_DONTWAIT);
    size_t n = read_file(text);
    if (n == 0)
        text[n++] = '\n'; /* an empty packet would be an end */
    if (asked > 0)
        (void)!send(fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return asked > 0 || (asked < 0 && (errno == EAGAIN || errno == EINTR));
}

bool resolvers_hear(struct resolvers *r)
{
    char text[RESOLVERS_TEXT];
    ssize_t n = recv(r->ask_fd, text, sizeof(text), MSG_DONTWAIT);
    if (n > 0)
        return replace(r, text, (size_t)n);
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        r->ask_fd = -1; /* the launcher has ended, and this process is about to */
    return false;
}

bool resolvers_ask(struct resolvers *r, uint64_t now)
{
    if (r->asked_at && now - r->asked_at < NSEC_PER_SEC)
        return false;
    r->asked_at = now;
    char text[RESOLVERS_TEXT];
    if (r->ask_fd < 0)
        return replace(r, text, read_file(text));
    (void)!send(r->ask_fd, "?", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    return false;
}

void resolvers_init(struct resolvers *r, int ask_fd)
{
    *r = (struct resolvers){.ask_fd = ask_fd};
    struct pollfd p = {.fd = ask_fd, .events = POLLIN};
    (void)resolvers_ask(r, clock_now());
    if (ask_fd >= 0 && poll(&p, 1, FIRST_MS) > 0)
        (void)resolvers_hear(r);
    if (r->n == 0)
        resolvers_parse(r, "", 0);
}
