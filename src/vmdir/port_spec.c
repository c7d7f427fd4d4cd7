#include "vmdir/port_spec.h"
#include "base/fd.h"
#include "host/os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char form[] = "it is [ADDRESS:]HOST:GUEST[/tcp|udp], such as 8080:80, or unix:PATH:GUEST";

static int bad(struct mvm_error *err, const char *text, const char *hint, const char *what)
{
    mvm_error_set(err, -EINVAL, "port '%.120s': %s", text, what);
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "%s", hint);
    return -EINVAL;
}

/* The parts of a text, which is cut into them. */
struct parts {
    const char *whole;
    char *address, *host, *guest, *protocol;
};

struct range {
    unsigned first, n;
};

static int parse_port(const struct parts *p, const char **at, unsigned *ret, struct mvm_error *err)
{
    size_t n = strspn(*at, "0123456789");
    unsigned v = 0;
    if (n == 0)
        return bad(err, p->whole, form, "not a port number");
    for (size_t i = 0; i < n && v <= UINT16_MAX; i++)
        v = 10 * v + (unsigned)((*at)[i] - '0');
    if (v > UINT16_MAX)
        return bad(err, p->whole, "a port is at most 65535", "no such port");
    *at += n;
    *ret = v;
    return 0;
}

static int parse_range(const struct parts *p, const char *at, struct range *ret, struct mvm_error *err)
{
    unsigned last;
    int r = parse_port(p, &at, &ret->first, err);
    ret->n = 1;
    if (r == 0 && *at == '-') {
        at++;
        r = parse_port(p, &at, &last, err);
        if (r == 0 && (last < ret->first || ret->first == 0))
            r = bad(err, p->whole, "a range goes up: 8000-8009:8000-8009", "no range");
        if (r == 0)
            ret->n = last - ret->first + 1;
    }
    return r == 0 && *at ? bad(err, p->whole, form, "not a port number") : r;
}

/* Cuts the text at its last colons. */
static int split(char *text, struct parts *ret, struct mvm_error *err)
{
    char *slash = strrchr(text, '/'), *colon = strrchr(text, ':');
    ret->protocol = NULL;
    if (slash && slash > colon) {
        *slash = '\0';
        ret->protocol = slash + 1;
    }
    if (!colon)
        return bad(err, ret->whole, form, "it names one port only");
    *colon = '\0';
    ret->guest = colon + 1;
    ret->host = text;
    ret->address = NULL;
    if (strncmp(text, "unix:", 5) == 0)
        return 0;
    colon = strrchr(text, ':');
    if (colon) {
        *colon = '\0';
        ret->host = colon + 1;
        ret->address = text;
    }
    return 0;
}

static int parse_protocol(const struct parts *p, struct port_spec *s, struct mvm_error *err)
{
    s->protocol = IPPROTO_TCP;
    if (!p->protocol || strcmp(p->protocol, "tcp") == 0)
        return 0;
    s->protocol = IPPROTO_UDP;
    return strcmp(p->protocol, "udp") == 0 ? 0 : bad(err, p->whole, "it is tcp or udp", "no such protocol");
}

static int parse_address(const struct parts *p, struct port_spec *s, struct mvm_error *err)
{
    uint8_t bytes[sizeof(struct in6_addr)];
    char *a = p->address;
    size_t n = a ? strlen(a) : 0;
    bool v6 = n > 2 && a[0] == '[' && a[n - 1] == ']';
    if (v6) {
        a[n - 1] = '\0';
        a++;
    }
    const char *text = a ? a : "127.0.0.1";
    int family = v6 ? AF_INET6 : AF_INET;
    if (inet_pton(family, text, bytes) != 1)
        return bad(err, p->whole, "an address is a number: 127.0.0.1, [::1], 0.0.0.0 for all of this host's",
                   "no such address");
    return inet_ntop(family, bytes, s->address, sizeof(s->address)) ? 0 : bad(err, p->whole, form, "no such address");
}

static int parse_path(const struct parts *p, struct port_spec *s, struct mvm_error *err)
{
    const char *path = p->host + strlen("unix:");
    if (s->protocol != IPPROTO_TCP)
        return bad(err, p->whole, "a socket in the file system carries a stream: leave /udp out", "not over a path");
    if (path[0] != '/' || path[strlen(path) - 1] == '/')
        return bad(err, p->whole, "give the socket's absolute path", "no path");
    if (strlen(path) >= sizeof(s->path))
        return bad(err, p->whole, "a socket's path has at most 107 bytes", "the path is too long");
    snprintf(s->path, sizeof(s->path), "%s", path);
    return 0;
}

static int parse_ports(const struct parts *p, const struct port_spec *s, struct range *host, struct range *guest,
                       struct mvm_error *err)
{
    int r = parse_range(p, p->guest, guest, err);
    if (r == 0 && guest->first == 0)
        r = bad(err, p->whole, "a service in the guest has a port from 1 to 65535", "port 0 of the guest");
    if (r == 0 && s->path[0])
        return guest->n == 1 ? 0 : bad(err, p->whole, "a path leads to one port", "a range of ports");
    if (r == 0)
        r = parse_range(p, p->host, host, err);
    if (r == 0 && host->n != guest->n)
        r = bad(err, p->whole, "as many ports of the host as of the guest: 8000-8009:9000-9009",
                "ranges of different lengths");
    return r;
}

int port_spec_parse(const char *text, struct port_spec *ret, size_t max, size_t *ret_n, struct mvm_error *err)
{
    char copy[PORT_SPEC_MAX_TEXT];
    struct parts p = {.whole = text};
    struct port_spec s = {0};
    struct range host = {.n = 1}, guest;
    if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy))
        return bad(err, text, form, "too long");
    int r = split(copy, &p, err);
    if (r == 0)
        r = parse_protocol(&p, &s, err);
    if (r == 0)
        r = strncmp(text, "unix:", 5) == 0 ? parse_path(&p, &s, err) : parse_address(&p, &s, err);
    if (r == 0)
        r = parse_ports(&p, &s, &host, &guest, err);
    if (r == 0 && host.n > max) {
        char hint[64];
        snprintf(hint, sizeof(hint), "a VM publishes at most %zu", max);
        r = bad(err, text, hint, "too many ports");
    }
    for (unsigned i = 0; r == 0 && i < host.n; i++) {
        ret[i] = s;
        ret[i].host = s.path[0] ? 0 : (uint16_t)(host.first + (host.first ? i : 0));
        ret[i].guest = (uint16_t)(guest.first + i);
    }
    if (r == 0)
        *ret_n = host.n;
    return r;
}

const char *port_spec_protocol(const struct port_spec *p)
{
    return p->protocol == IPPROTO_UDP ? "udp" : "tcp";
}

void port_spec_format_host(const struct port_spec *p, char out[static PORT_SPEC_MAX_TEXT])
{
    bool v6 = strchr(p->address, ':');
    if (p->path[0])
        snprintf(out, PORT_SPEC_MAX_TEXT, "%s", p->path);
    else
        snprintf(out, PORT_SPEC_MAX_TEXT, "%s%s%s:%u", v6 ? "[" : "", p->address, v6 ? "]" : "", p->host);
}

void port_spec_format(const struct port_spec *p, char out[static PORT_SPEC_MAX_TEXT])
{
    char host[PORT_SPEC_MAX_TEXT];
    port_spec_format_host(p, host);
    snprintf(out, PORT_SPEC_MAX_TEXT, "%s%.120s:%u/%s", p->path[0] ? "unix:" : "", host, p->guest,
             port_spec_protocol(p));
}

bool port_spec_same_host(const struct port_spec *a, const struct port_spec *b)
{
    if (a->path[0] || b->path[0])
        return strcmp(a->path, b->path) == 0;
    return a->host && a->host == b->host && a->protocol == b->protocol && strcmp(a->address, b->address) == 0;
}

int port_specs_check(const struct port_spec *v, size_t n, struct mvm_error *err)
{
    for (size_t i = 0; i < n; i++) {
        char text[PORT_SPEC_MAX_TEXT];
        port_spec_format_host(&v[i], text);
        for (size_t j = 0; j < i; j++)
            if (port_spec_same_host(&v[i], &v[j]))
                return bad(err, text, "each address and port leads to one port in the guest", "it is given twice");
    }
    return 0;
}

socklen_t port_spec_address(const struct port_spec *p, struct sockaddr_storage *ret)
{
    *ret = (struct sockaddr_storage){0};
    if (p->path[0]) {
        struct sockaddr_un *a = (struct sockaddr_un *)ret;
        a->sun_family = AF_UNIX;
        snprintf(a->sun_path, sizeof(a->sun_path), "%s", p->path);
        return sizeof(*a);
    }
    if (strchr(p->address, ':')) {
        struct sockaddr_in6 *a = (struct sockaddr_in6 *)ret;
        a->sin6_family = AF_INET6;
        a->sin6_port = htons(p->host);
        (void)!inet_pton(AF_INET6, p->address, &a->sin6_addr);
        return sizeof(*a);
    }
    struct sockaddr_in *a = (struct sockaddr_in *)ret;
    a->sin_family = AF_INET;
    a->sin_port = htons(p->host);
    (void)!inet_pton(AF_INET, p->address, &a->sin_addr);
    return sizeof(*a);
}

bool port_socket_remove_stale(const char *path)
{
    struct port_spec p = {0};
    struct sockaddr_storage a;
    struct stat st;
    if ((size_t)snprintf(p.path, sizeof(p.path), "%s", path) >= sizeof(p.path))
        return false;
    socklen_t n = port_spec_address(&p, &a);
    CLEAN_FD int fd = os_socket(AF_UNIX, SOCK_STREAM);
    return fd >= 0 && fd_set_nonblock(fd, true) == 0 && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
           st.st_uid == geteuid() && connect(fd, (struct sockaddr *)&a, n) < 0 && errno == ECONNREFUSED &&
           unlink(path) == 0;
}
