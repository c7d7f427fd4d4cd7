#include "guest/listeners.h"
#include "base/buf.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define TCP_LISTEN 0x0a
#define CHUNK      4096
/* More than any guest has; what lies behind is taken for not listening. */
#define MAX_TEXT (256u * 1024)

/* "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 ...": rx_queue of one that listens is its accept queue. */
static bool parse_line(const char *line, struct listener *ret, unsigned *ret_state)
{
    return sscanf(line, " %*u: %32[0-9A-Fa-f]:%4x %*[0-9A-Fa-f]:%*4x %2x %*8x:%8x", ret->address, &ret->port, ret_state,
                  &ret->queue) == 4;
}

bool listeners_next(const char **at, struct listener *ret)
{
    const char *line = *at;
    while (*line) {
        unsigned state;
        bool found = parse_line(line, ret, &state) && state == TCP_LISTEN;
        line += strcspn(line, "\n");
        line += *line == '\n';
        *at = line;
        if (found)
            return true;
    }
    return false;
}

/* The kernel prints an address as numbers of 32 bits in the machine's order. */
static void format_address(const struct sockaddr *a, char ret[static 33])
{
    uint32_t words[4];
    if (a->sa_family == AF_INET) {
        snprintf(ret, 33, "%08X", ((const struct sockaddr_in *)a)->sin_addr.s_addr);
        return;
    }
    memcpy(words, &((const struct sockaddr_in6 *)a)->sin6_addr, sizeof(words));
    snprintf(ret, 33, "%08X%08X%08X%08X", words[0], words[1], words[2], words[3]);
}

/* A socket of IPv6 that listens on all addresses takes connections to those of IPv4, too. */
static bool takes(const struct listener *l, const char *address, unsigned port)
{
    return l->port == port && (strcmp(l->address, address) == 0 || strspn(l->address, "0") == strlen(l->address));
}

int listeners_queue(const char *tcp, const char *tcp6, const struct sockaddr *to)
{
    const char *texts[] = {tcp6, to->sa_family == AF_INET ? tcp : ""};
    unsigned port = ntohs(to->sa_family == AF_INET ? ((const struct sockaddr_in *)to)->sin_port
                                                   : ((const struct sockaddr_in6 *)to)->sin6_port);
    char address[33];
    struct listener l;
    int least = -ENOENT;
    format_address(to, address);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        for (const char *at = texts[i]; listeners_next(&at, &l);)
            if (takes(&l, address, port) && (least < 0 || l.queue < (unsigned)least))
                least = l.queue < INT_MAX ? (int)l.queue : INT_MAX;
    return least;
}

/* The sockets that listen come first: the others, of which there may be thousands, are not read. */
static void read_listeners(const char *path, struct buf *b)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : 1;
    while (n > 0) {
        size_t from = b->len;
        struct listener l;
        unsigned state;
        n = buf_read(b, fd, CHUNK);
        /* Each read(2) of such a file gives whole lines. */
        for (const char *line = buf_cstr(b) + from; n > 0 && *line; line += *line == '\n') {
            if (parse_line(line, &l, &state) && state != TCP_LISTEN)
                return;
            line += strcspn(line, "\n");
        }
    }
}

int listeners_queue_now(const struct sockaddr *to)
{
    CLEAN_BUF struct buf tcp = BUF_INIT(MAX_TEXT);
    CLEAN_BUF struct buf tcp6 = BUF_INIT(MAX_TEXT);
    read_listeners("/proc/net/tcp6", &tcp6);
    if (to->sa_family == AF_INET)
        read_listeners("/proc/net/tcp", &tcp);
    return listeners_queue(buf_cstr(&tcp), buf_cstr(&tcp6), to);
}
