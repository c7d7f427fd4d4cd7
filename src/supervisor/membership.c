#include "supervisor/membership.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/handover.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_MS 5000

void membership_init(struct membership *m, const struct runfile *run)
{
    *m = (struct membership){.run = run, .socket_fd = -1, .process_fd = -1};
    for (unsigned i = 0; i <= NET_MEMBERS; i++)
        m->v[i].fd = -1;
}

static struct sockaddr_un address_of(int folder, const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%.70s", folder, name);
    return a;
}

/* "N-VM": the number, 0 where it is no such name. */
static unsigned parse_name(const char *text, char ret_vm[static PEERS_NAME])
{
    unsigned n = 0;
    int at = 0;
    if (sscanf(text, "%2u-%n", &n, &at) != 1 || !at || n > NET_MEMBERS ||
        !path_is_plain_name(text + at, PEERS_NAME - 1))
        return 0;
    snprintf(ret_vm, PEERS_NAME, "%s", text + at);
    return n;
}

/* ---- Wires ---- */

/* The network process is told; one that does not listen gets none until the next one is started. */
static void introduce(const struct membership *m, unsigned member)
{
    struct peers_introduction i = {.member = member};
    memcpy(i.name, m->v[member].name, sizeof(i.name));
    const struct handover p = {.data = &i, .size = sizeof(i), .fds = {m->v[member].fd}, .n_fds = 1};
    if (m->process_fd >= 0)
        (void)!handover_send(m->process_fd, &p);
}

static void take_wire(struct membership *m, unsigned member, const char *name, int fd)
{
    fd_closep(&m->v[member].fd);
    m->v[member].fd = fd;
    snprintf(m->v[member].name, sizeof(m->v[member].name), "%s", name);
    introduce(m, member);
}

/* To a member whose socket has that name. One where nobody listens is of a VM that was killed: it goes. */
static int meet(struct membership *m, int folder, const char *name, unsigned member, const char *vm)
{
    const struct sockaddr_un a = address_of(folder, name);
    struct peers_introduction i = {.member = (uint32_t)m->run->member};
    int pair[2] = {-1, -1};
    CLEAN_FD int to = os_socket(AF_UNIX, SOCK_DGRAM);
    if (to < 0)
        return to;
    if (connect(to, (const struct sockaddr *)&a, sizeof(a)) < 0) {
        (void)!unlinkat(folder, name, 0);
        return 0;
    }
    int r = os_packet_pair(pair);
    CLEAN_FD int theirs = pair[1];
    if (r < 0)
        return r;
    snprintf(i.name, sizeof(i.name), "%s", m->run->name);
    const struct handover p = {.data = &i, .size = sizeof(i), .fds = {theirs}, .n_fds = 1};
    r = fd_set_nonblock(to, true);
    if (r == 0)
        r = handover_send(to, &p);
    if (r < 0) {
        close(pair[0]);
        return r == -ECONNREFUSED ? 0 : r;
    }
    take_wire(m, member, vm, pair[0]);
    return 0;
}

/* ---- Joining ---- */

struct round {
    struct membership *m;
    int folder;
};

static int on_socket(void *data, const char *name)
{
    struct round *r = data;
    char vm[PEERS_NAME];
    unsigned member = parse_name(name, vm);
    if (member == r->m->run->member) {
        (void)!unlinkat(r->folder, name, 0); /* of whoever had the number before */
        return 0;
    }
    return member ? meet(r->m, r->folder, name, member, vm) : 0;
}

static void own_name(const struct membership *m, char ret[static PEERS_NAME + 4])
{
    snprintf(ret, PEERS_NAME + 4, "%u-%s", (unsigned)m->run->member, m->run->name);
}

static int join(struct membership *m)
{
    char name[PEERS_NAME + 4];
    CLEAN_FD int folder = open(m->run->network_folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    struct round round = {.m = m, .folder = folder};
    int r = os_lock_until(folder, clock_deadline(LOCK_MS));
    if (r == 0)
        r = path_each(folder, ".", on_socket, &round);
    CLEAN_FD int fd = r == 0 ? os_socket(AF_UNIX, SOCK_DGRAM) : -1;
    own_name(m, name);
    const struct sockaddr_un a = address_of(folder, name);
    if (r == 0 && (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0))
        r = fd < 0 ? fd : -errno;
    if (r == 0)
        m->socket_fd = TAKE_FD(fd);
    return r;
}

int membership_offer(struct membership *m, int *ret, struct mvm_error *err)
{
    int pair[2] = {-1, -1};
    *ret = -1;
    if (!m->run->member_of[0])
        return 0;
    fd_closep(&m->process_fd);
    int r = m->socket_fd < 0 ? join(m) : 0;
    if (r < 0)
        return mvm_error_errno(err, r, "it cannot join network '%s'", m->run->member_of);
    r = os_packet_pair(pair);
    if (r == 0)
        r = fd_set_nonblock(pair[0], true);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot make a socket");
    m->process_fd = pair[0];
    *ret = pair[1];
    for (unsigned i = 1; i <= NET_MEMBERS; i++)
        if (m->v[i].fd >= 0)
            introduce(m, i);
    return 0;
}

void membership_leave(struct membership *m)
{
    char name[PEERS_NAME + 4];
    CLEAN_FD int folder =
        m->socket_fd >= 0 ? open(m->run->network_folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    own_name(m, name);
    if (folder >= 0)
        (void)!unlinkat(folder, name, 0); /* what stays, the next one who comes removes */
    fd_closep(&m->socket_fd);
    fd_closep(&m->process_fd);
    for (unsigned i = 1; i <= NET_MEMBERS; i++)
        fd_closep(&m->v[i].fd);
}

/* ---- Others ---- */

size_t membership_fill(const struct membership *m, struct pollfd *fds)
{
    size_t n = 0;
    if (m->socket_fd >= 0)
        fds[n++] = (struct pollfd){.fd = m->socket_fd, .events = POLLIN};
    for (unsigned i = 1; i <= NET_MEMBERS; i++)
        if (m->v[i].fd >= 0)
            fds[n++] = (struct pollfd){.fd = m->v[i].fd}; /* its end alone: frames are the network process's */
    return n;
}

static void hear(struct membership *m)
{
    struct peers_introduction i = {0};
    struct handover p = {.data = &i, .size = sizeof(i)};
    int r = handover_receive(m->socket_fd, &p);
    bool good = r == 0 && p.n_fds == 1 && i.member >= 1 && i.member <= NET_MEMBERS && i.member != m->run->member &&
                memchr(i.name, '\0', sizeof(i.name)) && path_is_plain_name(i.name, sizeof(i.name) - 1);
    if (good)
        take_wire(m, i.member, i.name, p.fds[0]);
    for (size_t k = good ? 1 : 0; k < p.n_fds; k++)
        close(p.fds[k]);
}

void membership_serve(struct membership *m, const struct pollfd *fds, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        if (!fds[k].revents)
            continue;
        for (unsigned i = 1; i <= NET_MEMBERS; i++)
            if (m->v[i].fd == fds[k].fd)
                fd_closep(&m->v[i].fd);
        if (fds[k].fd == m->socket_fd)
            hear(m);
    }
}
