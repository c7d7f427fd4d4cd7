#include "machine/ports.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/os.h"
#include "host/port_owner.h"
#include "machine/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG     4096
#define DEADLINE_MS 10000

size_t ports_of_status(const struct msg_status *st, struct port_spec ret[static PORTS_MAX])
{
    char text[sizeof(st->ports)], *rest = text;
    size_t n = 0, one;
    snprintf(text, sizeof(text), "%s", st->ports);
    for (const char *line; n < PORTS_MAX && (line = strsep(&rest, "\n"));)
        if (*line && port_spec_parse(line, &ret[n], 1, &one, NULL) == 0)
            n++;
    return n;
}

/* ---- Whose a port is ---- */

static bool is_any(const struct port_spec *p)
{
    return strcmp(p->address, "0.0.0.0") == 0 || strcmp(p->address, "::") == 0;
}

static bool collide(const struct port_spec *a, const struct port_spec *b)
{
    bool any =
        !a->path[0] && !b->path[0] && a->host == b->host && a->protocol == b->protocol && (is_any(a) || is_any(b));
    return any || port_spec_same_host(a, b);
}

/* The VM that publishes it. */
static bool find_vm(struct home *h, const struct port_spec *p, char *out, size_t size)
{
    CLEAN_FREE struct machine_info *list = NULL;
    struct port_spec theirs[PORTS_MAX];
    size_t n = 0;
    if (machine_list(h, true, &list, &n, NULL) < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t ports = ports_of_status(&list[i].status, theirs);
        for (size_t j = 0; j < ports; j++) {
            if (!collide(&theirs[j], p))
                continue;
            snprintf(out, size, "vm '%s' publishes it", list[i].name);
            return true;
        }
    }
    return false;
}

static int in_use(struct home *h, const struct port_spec *p, struct mvm_error *err)
{
    char place[PORT_SPEC_MAX_TEXT], who[128], process[64];
    pid_t pid = 0;
    port_spec_format_host(p, place);
    if (!find_vm(h, p, who, sizeof(who))) {
        pid = p->path[0] ? 0 : port_owner(p->host, p->protocol == IPPROTO_UDP, process, sizeof(process));
        if (pid)
            snprintf(who, sizeof(who), "process %d (%s) has it", (int)pid, process);
        else
            snprintf(who, sizeof(who), "another process has it");
    }
    mvm_error_set(err, -EADDRINUSE, "%s%s is in use: %s", p->path[0] ? "" : "port ", place, who);
    mvm_error_hint(err, p->path[0] ? "choose another path" : "choose another port, or 0 for one that is free");
    return -EADDRINUSE;
}

/* ---- Sockets ---- */

static int cannot_bind(struct home *h, const struct port_spec *p, int r, struct mvm_error *err)
{
    char place[PORT_SPEC_MAX_TEXT];
    port_spec_format_host(p, place);
    if (r == -EADDRINUSE)
        return in_use(h, p, err);
    mvm_error_set(err, r, "cannot listen on %s: %s", place, strerror(-r));
    if (r == -EADDRNOTAVAIL)
        mvm_error_hint(err, "no network card of this host has that address: ip address lists those there are");
    else if (r == -EACCES && !p->path[0])
        mvm_error_hint(err,
                       "low ports are root's (sysctl net.ipv4.ip_unprivileged_port_start): choose one from 1024 on");
    return r;
}

static int bind_to(int fd, const struct port_spec *p)
{
    struct sockaddr_storage a;
    socklen_t n = port_spec_address(p, &a);
    const struct sockaddr *any = (const struct sockaddr *)&a;
    if (!p->path[0])
        return bind(fd, any, n) < 0 ? -errno : 0;
    mode_t old = umask(0177);
    int r = bind(fd, any, n) < 0 ? -errno : 0;
    if (r == -EADDRINUSE && port_socket_remove_stale(p->path))
        r = bind(fd, any, n) < 0 ? -errno : 0;
    umask(old);
    return r;
}

static void fill_port(int fd, struct port_spec *p)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;
    socklen_t n = sizeof(a);
    if (!p->path[0] && getsockname(fd, &a.any, &n) == 0)
        p->host = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
}

static int open_one(struct home *h, struct port_spec *p, struct mvm_error *err)
{
    const int on = 1, family = p->path[0] ? AF_UNIX : strchr(p->address, ':') ? AF_INET6 : AF_INET;
    const bool udp = p->protocol == IPPROTO_UDP;
    CLEAN_FD int fd = os_socket(family, udp ? SOCK_DGRAM : SOCK_STREAM);
    if (fd < 0)
        return mvm_error_errno(err, fd, "cannot make a socket");
    /* Connections of the one before may still be ending; UDP knows none. */
    if (family != AF_UNIX && !udp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    int r = bind_to(fd, p);
    if (r == 0 && !udp && listen(fd, BACKLOG) < 0)
        r = -errno;
    if (r < 0)
        return cannot_bind(h, p, r, err);
    fill_port(fd, p);
    return TAKE_FD(fd);
}

void port_sockets_free(struct port_sockets *p)
{
    for (size_t i = 0; p && i < p->n; i++) {
        fd_closep(&p->fds[i]);
        if (p->specs[i].path[0] && !p->given)
            unlink(p->specs[i].path);
    }
    free(p);
}

int port_sockets_open(struct home *h, const struct port_spec *v, size_t n, struct port_sockets **ret,
                      struct mvm_error *err)
{
    CLEAN_PORT_SOCKETS struct port_sockets *p = calloc(1, sizeof(*p));
    if (!p)
        return mvm_error_errno(err, -ENOMEM, "ports");
    for (size_t i = 0; i < n; i++) {
        p->specs[i] = v[i];
        p->fds[i] = open_one(h, &p->specs[i], err);
        if (p->fds[i] < 0) {
            mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
            return p->fds[i];
        }
        p->n++;
    }
    *ret = TAKE_PTR(p);
    return 0;
}

/* ---- Requests ---- */

static int add(struct msg_strings *list, const struct port_spec *p)
{
    char text[PORT_SPEC_MAX_TEXT];
    port_spec_format(p, text);
    return msg_strings_add(list, strdup(text));
}

static int ask(struct client *c, const struct msg_ports *m, const struct port_sockets *publish, struct mvm_error *err)
{
    CLEAN_BUF struct buf request = BUF_INIT(FRAME_MAX_PAYLOAD);
    uint32_t stream = 0;
    int r = msg_ports_encode(&request, m);
    if (r < 0)
        return mvm_error_errno(err, r, "request");
    r = client_open_with(c, &request, publish ? publish->fds : NULL, publish ? publish->n : 0, &stream, err);
    if (r == 0)
        r = client_expect_exit(c, stream, clock_deadline(DEADLINE_MS), err);
    if (r == -EIO)
        mvm_error_hint(err, "mvmctl port NAME shows what a VM publishes; one that an older mvmctl has built or "
                            "started, nothing: build its image or start it again");
    return r;
}

int client_ports(struct client *c, struct port_sockets *publish, const struct port_spec *unpublish, size_t n_unpublish,
                 bool tied, struct mvm_error *err)
{
    struct msg_ports m = {.tied = tied};
    int r = 0;
    for (size_t i = 0; r == 0 && publish && i < publish->n; i++)
        r = add(&m.publish, &publish->specs[i]);
    for (size_t i = 0; r == 0 && i < n_unpublish; i++)
        r = add(&m.unpublish, &unpublish[i]);
    r = r < 0 ? mvm_error_errno(err, r, "request") : ask(c, &m, publish, err);
    if (r == 0 && publish)
        publish->given = true;
    msg_ports_done(&m);
    return r;
}

int ports_publish(struct home *h, const char *name, struct port_sockets *p, struct msg_status *st,
                  struct mvm_error *err)
{
    CLEAN_CLIENT struct client *c = NULL;
    int r = client_connect(h, name, &c, err);
    if (r == 0)
        r = client_ports(c, p, NULL, 0, false, err);
    if (r < 0)
        return r;
    size_t at = 0;
    for (size_t i = 0; i < p->n && at + PORT_SPEC_MAX_TEXT < sizeof(st->ports); i++) {
        char text[PORT_SPEC_MAX_TEXT];
        port_spec_format(&p->specs[i], text);
        at += (size_t)snprintf(st->ports + at, sizeof(st->ports) - at, "%s\n", text);
    }
    return 0;
}
